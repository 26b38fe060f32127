select (select max(price) from visit), coalesce(null, 1) is not distinct from 1, not true or false
