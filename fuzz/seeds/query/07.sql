select upper(guest) || '-' || left(visit_id, 2) from visit where guest like 'guest%' and price between 1 and 100
