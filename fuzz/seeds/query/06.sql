select case when price > 10 then 'dear' else 'cheap' end as k, count(*) from visit group by 1 having count(*) > 1
