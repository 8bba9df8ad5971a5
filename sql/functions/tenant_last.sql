-- The position of a tenant's last event up to `p_upto`; null if there is none. A consumer gets this
-- position with the next event, and so can prove that no event is missing. app.tenant_range
-- explains the conditions and the settings.
create or replace function app.tenant_last(p_tenant_id text, p_upto bigint, p_types text[])
returns bigint
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
