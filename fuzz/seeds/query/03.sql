with t as (select * from visit_events) select count(distinct guest) from t where event_time < timestamp '2026-01-01 11:10:00'
