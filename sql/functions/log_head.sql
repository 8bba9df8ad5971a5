-- The position of the last event in the log. Runs as the owner, because the last event can be
-- another tenant's.
create or replace function app.log_head() returns bigint
language sql stable security definer set search_path = '' as $$
    select coalesce(max(position), 0) from app.event
$$;

revoke execute on function app.log_head() from public;
grant execute on function app.log_head() to throughline_service, throughline_tenant;
