-- The role of this database for reads of one tenant. Its name differs where another owner's database
-- is on the same server: `service/postgres/roles.py`.
create or replace function app.tenant_role() returns name
language sql immutable parallel safe return 'throughline_tenant'::name;
