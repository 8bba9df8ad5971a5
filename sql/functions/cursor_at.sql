-- The cursor of the event at a position; null if the log has no such event. The position 0 is before
-- the first event of every log. Runs as the owner, because the event can be another tenant's.
create or replace function app.cursor_at(p_position bigint) returns text
language sql stable strict parallel safe security definer
-- PostgreSQL keeps plans that it made for a small log. Never read the whole log.
set search_path = '' set enable_seqscan = off
as $$
    select case p_position
        when 0 then '0.00000000'
        else (
            select app.cursor_of(event.position, event.append_id)
            from app.event
            where event.position = p_position
        )
    end
$$;

revoke execute on function app.cursor_at(bigint) from public;
grant execute on function app.cursor_at(bigint) to throughline_service, throughline_tenant;
