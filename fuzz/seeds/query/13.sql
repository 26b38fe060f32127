select date_trunc('hour', began_at), extract(minute from began_at), cast(price as varchar) from visit
