-- Removes at most `p_limit` entries of each tenant that are older than `p_days`; returns how many.
-- Runs as the owner, because the service may not remove an entry.
--
-- A request id is a UUIDv7, and begins with the time in milliseconds. So the oldest entries of a
-- tenant are the first ones of its index.
create or replace function app.expire_audit(p_days integer, p_limit integer) returns bigint
language sql security definer set search_path = '' set enable_seqscan = off as $$
    with recursive oldest as (
        -- The beginning of the first request id that stays: 8 hex digits, a dash, 4 hex digits.
        select overlay(lpad(to_hex(since), 12, '0') placing '-' from 9 for 0) as kept
        from (
            select floor(extract(epoch from now() - make_interval(days => p_days)) * 1000)::bigint
        ) as first (since)
    ),
    tenants as (
        (select tenant_id from app.audit order by tenant_id limit 1)
        union all
        select (
            select audit.tenant_id from app.audit
            where audit.tenant_id > tenants.tenant_id
            order by audit.tenant_id
            limit 1
        )
        from tenants
        where tenants.tenant_id is not null
    ),
    expired as (
        select old.tenant_id, old.request_id
        from oldest, tenants
        cross join lateral (
            select tenant_id, request_id
            from app.audit
            where audit.tenant_id = tenants.tenant_id
                and audit.request_id < oldest.kept
                and audit.at < now() - make_interval(days => p_days)
            order by audit.request_id
            limit p_limit
        ) as old
    ),
    removed as (
        delete from app.audit using expired
        where audit.tenant_id = expired.tenant_id and audit.request_id = expired.request_id
        returning 1
    )
    select count(*) from removed
$$;

revoke execute on function app.expire_audit(integer, integer) from public;
grant execute on function app.expire_audit(integer, integer) to throughline_service;
