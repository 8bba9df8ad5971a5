-- The role of this database for analysts. Its name differs where another owner's database
-- is on the same server: `service/postgres/roles.py`.
create or replace function app.analyst_role() returns name
language sql immutable parallel safe return 'throughline_analyst'::name;
