-- The position of the last event that was recorded at or before a time; 0 before the first event. The
-- search halves the log, because the events are in the order of their times. Runs as the owner,
-- because the events are those of all tenants.
create or replace function app.position_at(p_time timestamptz) returns bigint
language plpgsql stable security definer set search_path = '' as $$
declare
    v_at   bigint := 0;
    v_step bigint := 1;
    v_head bigint := app.log_head();
begin
    while v_step * 2 <= v_head loop
        v_step := v_step * 2;
    end loop;
    while v_step > 0 loop
        if v_at + v_step <= v_head and (
            select recorded_at <= p_time from app.event where position = v_at + v_step
        ) then
            v_at := v_at + v_step;
        end if;
        v_step := v_step / 2;
    end loop;
    return v_at;
end
$$;

revoke execute on function app.position_at(timestamptz) from public;
grant execute on function app.position_at(timestamptz) to throughline_service, throughline_tenant;
