-- The role of a transaction decides which rows it sees. All settings end with the transaction, because
-- a connection pooler gives the session to somebody else after it.
--
-- A plan is made while the tables are small and kept while they grow: it must use the indexes. That is
-- why enable_seqscan is off.

-- name: as_tenant
select set_config('role', 'throughline_tenant', true),
       set_config('throughline.tenant', %(tenant_id)s, true),
       set_config('statement_timeout', '30s', true),
       set_config('enable_seqscan', 'off', true)

-- name: as_service
select set_config('role', 'throughline_service', true),
       set_config('statement_timeout', '30s', true),
       set_config('enable_seqscan', 'off', true)

-- name: unbound_roles
-- Roles of the service that row level security does not bind. Such a role would see all tenants.
select rolname
from pg_roles
where rolname in ('throughline_service', 'throughline_tenant', 'throughline_analyst')
    and (
        rolsuper
        or rolbypassrls
        or exists (
            select from pg_class
            where relowner = pg_roles.oid
                and relnamespace in ('app'::regnamespace, 'analytics'::regnamespace)
        )
    )

-- name: has_events
select exists (select from app.event where tenant_id = %(tenant_id)s)

-- name: analysts
select role_name::text, tenant_id from app.analyst order by role_name

-- name: add_analyst
insert into app.analyst (role_name, tenant_id)
values (%(name)s, %(tenant_id)s)

-- name: remove_analyst
delete from app.analyst where role_name = %(name)s
