-- The role of this database for the service's own work. Its name differs where another owner's database
-- is on the same server: `service/postgres/roles.py`.
create or replace function app.service_role() returns name
language sql immutable parallel safe return 'throughline_service'::name;
