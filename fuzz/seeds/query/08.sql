select unnest(tags) from visit_events
