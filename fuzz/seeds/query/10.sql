drop table visit
