select guest, sum(price) as total from visit group by guest order by total desc limit 2
