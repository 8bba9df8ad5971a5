-- The events of a project after `p_after` up to `p_upto`, in order. `p_types` null selects all
-- types. app.tenant_range explains the conditions and the settings; the index here is
-- event_of_project.
create or replace function app.project_range(
    p_tenant_id text, p_project_id text, p_after bigint, p_upto bigint, p_types text[],
    p_limit integer
) returns setof app.event
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off
set enable_sort = off set enable_incremental_sort = off
as $$
begin
    return query
    select *
    from app.event
    where (tenant_id, project_id, position) > (p_tenant_id, p_project_id, p_after)
        and (tenant_id, project_id, position) <= (p_tenant_id, p_project_id, p_upto)
        and (p_types is null or type = any (p_types))
    order by tenant_id, project_id, position
    limit p_limit;
end
$$;
