-- Applies the copied events after `p_after` up to `p_upto` to one read model of the past. It leaves
-- out what the live read model leaves out: the events of a stream that was set aside, from the event
-- on which the rules failed.
create or replace function app.fold_past_range(p_name text, p_after bigint, p_upto bigint)
returns void
language plpgsql set search_path = '' set enable_seqscan = off as $$
declare
    v_call text := format('select past.%I($1, $2)', 'apply_' || p_name);
    v_at   bigint := p_after;
    v_skip bigint;
begin
    while v_at < p_upto loop
        v_skip := app.next_set_aside(p_name, v_at, p_upto);
        if v_skip is distinct from v_at + 1 then
            execute v_call using v_at, coalesce(v_skip - 1, p_upto);
        end if;
        v_at := coalesce(v_skip, p_upto);
    end loop;
end
$$;

revoke execute on function app.fold_past_range(text, bigint, bigint) from public;
