-- Applies the events after `p_after` up to `p_upto` to one read model. Returns whether that worked.
--
-- A stream on whose events the rules fail is set aside, and that works. If the rules fail for another
-- reason, the rows of the read model stay as they were, and the read model halts with the reason. The
-- caller does not fail.
create or replace function app.apply(p_name text, p_after bigint, p_upto bigint) returns boolean
language plpgsql as $$
declare
    v_reason text;
begin
    perform app.project_around('app', p_name, p_after, p_upto);
    return true;
exception
    -- These errors are not errors of the rules.
    when admin_shutdown or crash_shutdown or deadlock_detected or lock_not_available then
        raise;
    when others then
        get stacked diagnostics v_reason = message_text;
        update app.projection
        set
            halted_at = coalesce(halted_at, clock_timestamp()),
            halted_before = p_upto,
            halted_reason = v_reason,
            position = p_after,
            follows = false
        where name = p_name;
        return false;
end
$$;
