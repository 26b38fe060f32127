select * from visit union all select * from visit limit 3 offset 1
