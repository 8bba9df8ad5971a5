-- Whose rows a transaction sees. Both end with it.

-- name: of_tenant
select set_config('role', 'throughline_tenant', true),
       set_config('throughline.tenant', %(tenant_id)s, true)

-- name: of_service
select set_config('role', 'throughline_service', true)

-- name: clock
-- The time by the one clock that all servers share.
select clock_timestamp()

-- name: nobody
-- Until a transaction says whose rows it is for, it sees none.
set role throughline_tenant

-- name: unbound_roles
-- The roles that would see what they must not: those that row level security does not bind.
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

-- name: let_analyst
insert into app.analyst (role_name, tenant_id)
values (%(name)s, %(tenant_id)s)

-- name: remove_analyst
delete from app.analyst where role_name = %(name)s
