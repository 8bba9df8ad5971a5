-- The role of a transaction decides which rows it sees. All settings end with the transaction, because
-- a connection pooler gives the session to somebody else after it.
--
-- A plan is made while the tables are small and kept while they grow: it must use the indexes. That is
-- why enable_seqscan is off.

-- name: as_tenant
select set_config('role', app.tenant_role(), true),
       set_config('throughline.tenant', %(tenant_id)s, true),
       set_config('statement_timeout', '30s', true),
       set_config('enable_seqscan', 'off', true)

-- name: as_service
select set_config('role', app.service_role(), true),
       set_config('statement_timeout', '30s', true),
       set_config('enable_seqscan', 'off', true)

-- name: serve
-- For a connection that serves no tenant, until its end.
select set_config('role', app.service_role(), false),
       set_config('statement_timeout', '30s', false),
       set_config('enable_seqscan', 'off', false)

-- name: database
select current_database()

-- name: is_in_use
select to_regnamespace('app') is not null

-- name: knows_its_roles
select to_regprocedure('app.service_role()') is not null

-- name: service_role
select app.service_role()

-- name: analyst_role
select app.analyst_role()

-- name: may_grant
-- Whether the user may grant the three roles of a prefix, so far as they exist. Before PostgreSQL 16,
-- everybody who may create roles may grant them.
select coalesce(
    bool_and(
        current_setting('server_version_num')::integer < 160000
        or pg_has_role(current_user, oid, 'member with admin option')
    ),
    true
)
from pg_roles
where rolname in (
    %(prefix)s || '_service', %(prefix)s || '_tenant', %(prefix)s || '_analyst'
)

-- name: missing
select role
from unnest(
    array[%(prefix)s || '_service', %(prefix)s || '_tenant', %(prefix)s || '_analyst']
) as role
where not exists (select from pg_roles where rolname = role)

-- name: unbound_roles
-- Roles of the service that row level security does not bind. Such a role would see all tenants.
select rolname
from pg_roles
where rolname in (app.service_role(), app.tenant_role(), app.analyst_role())
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
