-- Copies the events of a project up to `p_upto` into the schema `past`, at most `p_limit` of them.
-- Returns how many. app.tenant_range explains the conditions and the settings; the index here is
-- event_of_project.
create or replace function app.copy_past(
    p_tenant_id text, p_project_id text, p_upto bigint, p_limit bigint
) returns bigint
language plpgsql set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off
set enable_sort = off set enable_incremental_sort = off
as $$
declare
    v_count bigint;
begin
    insert into past.event
    select *
    from app.event
    where (tenant_id, project_id, position) > (p_tenant_id, p_project_id, 0)
        and (tenant_id, project_id, position) <= (p_tenant_id, p_project_id, p_upto)
    order by tenant_id, project_id, position
    limit p_limit;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;

revoke execute on function app.copy_past(text, text, bigint, bigint) from public;
