-- Turns on row level security for a table with a tenant_id, and lets the roles read that read for
-- one tenant.
create or replace function app.keep_tenants_apart(p_table regclass) returns void
language plpgsql as $$
begin
    execute format('alter table %s enable row level security', p_table);
    execute format('alter table %s force row level security', p_table);
    execute format(
        'create policy of_all_tenants on %s to throughline_service using (true) with check (true)',
        p_table
    );
    -- The subquery reads the tenant once a statement. Without a tenant the setting is '' or null,
    -- and no row matches.
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
