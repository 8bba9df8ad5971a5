-- The second wall between tenants: whoever reads for one of them sees its rows and no others,
-- whatever the statement asks for. Analysts are a role each, and see the tenant that the role is for.
--
-- Nobody has a role that passes by: the service's own work, which is of all tenants, has a policy.

do $$
begin
    create role throughline_tenant nologin;
exception
    when duplicate_object or unique_violation then null;
end
$$;

grant throughline_tenant to current_user;
grant usage on schema app to throughline_tenant;
-- What is no tenant's: how far the read models are, and which signatures were used.
grant select on app.projection to throughline_tenant;
grant select, insert, delete on app.nonce to throughline_tenant;


create table app.analyst (
    role_name name not null,
    tenant_id text not null collate "C",
    constraint analyst_pkey primary key (role_name)
);
comment on table app.analyst is
    'Whose rows a role with throughline_analyst sees. One that is not here sees none.';
comment on column app.analyst.role_name is 'The role that the analyst logs in as.';
comment on column app.analyst.tenant_id is 'The tenant.';

alter table app.analyst enable row level security;
alter table app.analyst force row level security;
create policy of_all_tenants on app.analyst to throughline_service using (true) with check (true);
create policy of_own_role on app.analyst for select to throughline_analyst
using (role_name = current_user);
grant select on app.analyst to throughline_analyst;


-- Puts the wall around a table with a tenant_id, and lets the roles that read for one tenant in.
create function app.keep_tenants_apart(p_table regclass) returns void
language plpgsql as $$
begin
    execute format('alter table %s enable row level security', p_table);
    execute format('alter table %s force row level security', p_table);
    execute format(
        'create policy of_all_tenants on %s to throughline_service using (true) with check (true)',
        p_table
    );
    -- The tenant is looked up once a statement. Where none is set nothing matches, for none is ''.
    execute format(
        'create policy of_own_tenant on %s for select to throughline_tenant '
        'using (tenant_id = (select current_setting(''throughline.tenant'', true)))',
        p_table
    );
    execute format(
        'create policy of_analyst_s_tenant on %s for select to throughline_analyst '
        'using (tenant_id = (select tenant_id from app.analyst where role_name = current_user))',
        p_table
    );
    execute format('grant select on %s to throughline_tenant', p_table);
end
$$;

select app.keep_tenants_apart(format('app.%I', name)::regclass)
from (
    select name from app.projection
    union all
    values ('event'), ('snapshot'), ('reply_chunk')
) as apart (name);


-- The position of the log's last event, whosever it is.
create function app.log_head() returns bigint
language sql stable security definer set search_path = '' as $$
    select coalesce(max(position), 0) from app.event
$$;
revoke execute on function app.log_head() from public;
grant execute on function app.log_head() to throughline_service, throughline_tenant;
