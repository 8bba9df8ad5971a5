-- The events of a tenant after `p_after` up to `p_upto`, in order. `p_types` null selects all
-- types.
--
-- The primary key has the same order. With that index PostgreSQL would read the events of all
-- tenants to find those of a quiet one. Therefore the conditions and the order are the full key of
-- the index event_of_tenant, and sorting is off: a plan that was made for a small log is kept as
-- the log grows.
create or replace function app.tenant_range(
    p_tenant_id text, p_after bigint, p_upto bigint, p_types text[], p_limit integer
) returns setof app.event
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off
set enable_sort = off set enable_incremental_sort = off
as $$
begin
    return query
    select *
    from app.event
    where (tenant_id, position) > (p_tenant_id, p_after)
        and (tenant_id, position) <= (p_tenant_id, p_upto)
        and (p_types is null or type = any (p_types))
    order by tenant_id, position
    limit p_limit;
end
$$;
