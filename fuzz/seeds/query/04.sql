select guest, row_number() over (partition by guest order by price) as n from visit qualify n = 1
