select * from read_csv('canary.csv')
