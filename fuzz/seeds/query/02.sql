select v.guest, e.event_type from visit v join visit_events e using (visit_id) where e.position > 3
