-- Consumers read a tenant's log in order, from anywhere in it.

create index event_of_tenant on app.event (tenant_id, position);


-- The place of the last event that a feed has up to a position; null when it has none. A consumer
-- is told it with the event that comes next, and so proves that none was missed. The bounds are a
-- whole key of the index that is meant, as in app.tenant_range.
create function app.tenant_last(p_tenant_id text, p_upto bigint, p_types text[]) returns bigint
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off
set enable_sort = off set enable_incremental_sort = off
as $$
begin
    return (
        select position
        from app.event
        where (tenant_id, position) > (p_tenant_id, 0)
            and (tenant_id, position) <= (p_tenant_id, p_upto)
            and (p_types is null or type = any (p_types))
        order by tenant_id desc, position desc
        limit 1
    );
end
$$;

create function app.project_last(
    p_tenant_id text, p_project_id text, p_upto bigint, p_types text[]
) returns bigint
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off
set enable_sort = off set enable_incremental_sort = off
as $$
begin
    return (
        select position
        from app.event
        where (tenant_id, project_id, position) > (p_tenant_id, p_project_id, 0)
            and (tenant_id, project_id, position) <= (p_tenant_id, p_project_id, p_upto)
            and (p_types is null or type = any (p_types))
        order by tenant_id desc, project_id desc, position desc
        limit 1
    );
end
$$;
