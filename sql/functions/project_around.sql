-- Applies the events after `p_after` up to `p_upto` to one read model, and sets those streams aside
-- on whose events its rules fail.
--
-- `p_schema` is the schema of the table and the rules: `app`, or that of a rebuild or verification.
-- A stream that is set aside is left out from the event that failed, except for an event that erases
-- the stream. All other streams go on. Errors that no event causes, such as a missing function, are
-- raised.
--
-- The first try is the whole range. After a failure the steps are halved until one event fails
-- alone, and doubled again after each success.
create or replace function app.project_around(
    p_schema text, p_name text, p_after bigint, p_upto bigint
) returns void
language plpgsql set enable_seqscan = off as $$
declare
    v_key    text := case p_schema when 'app' then p_name else p_schema end;
    v_call   text := format('select %I.%I($1, $2)', p_schema, 'apply_' || p_name);
    v_at     bigint := p_after;
    v_step   bigint := p_upto - p_after;
    v_skip   bigint := app.next_set_aside(v_key, p_after, p_upto);
    v_end    bigint;
    v_reason text;
begin
    while v_at < p_upto loop
        if v_skip = v_at + 1 then
            v_at := v_skip;
            v_skip := app.next_set_aside(v_key, v_at, p_upto);
            continue;
        end if;
        v_end := least(v_at + v_step, p_upto, v_skip - 1);
        v_reason := null;
        begin
            execute v_call using v_at, v_end;
        exception
            -- The classes of errors that the values of an event can cause.
            when data_exception or integrity_constraint_violation or cardinality_violation
                or program_limit_exceeded or plpgsql_error
            then
                get stacked diagnostics v_reason = message_text;
        end;
        if v_reason is null then
            v_at := v_end;
            v_step := least(v_step * 2, p_upto - p_after);
        elsif v_end > v_at + 1 then
            v_step := (v_end - v_at) / 2;
        else
            perform app.set_stream_aside(p_schema, p_name, v_end, v_reason);
            v_at := v_end;
            v_skip := app.next_set_aside(v_key, v_at, p_upto);
        end if;
    end loop;
end
$$;
