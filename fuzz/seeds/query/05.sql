select a.* from visit a where exists (select 1 from visit b where b.guest = a.guest and b.price > a.price)
