-- Updates the read models in the transaction that appended the events `p_first` to `p_last`.
--
-- Passes over a read model that another transaction has locked (a catch-up, a swap), so no append
-- waits. Passes over a read model that is far behind, too. Each read model continues from its own
-- checkpoint, so it never skips an event.
--
-- One dynamic statement calls all affected read models, because PostgreSQL plans a dynamic
-- statement at each call. If that statement fails, call them one by one: each sets the streams aside
-- that it fails on. A read model that has set streams aside is always called by itself.
create or replace function app.project_inline(p_first bigint, p_last bigint, p_types text[])
returns void
language plpgsql as $$
declare
    v_held  text[];
    v_alone text[];
    v_calls text;
begin
    select
        array_agg(name),
        array_agg(name) filter (where is_affected and set_aside > 0),
        string_agg(format('app.apply_%s(%s, $1)', name, position), ', ' order by name)
            filter (where is_affected and set_aside = 0)
    into v_held, v_alone, v_calls
    from (
        select name, position, set_aside, position <> p_first - 1 or handles && p_types as is_affected
        from app.projection
        where halted_at is null and position > p_first - 1000
        for no key update skip locked
    ) as held;
    if v_held is null then
        return;
    elsif v_calls is not null then
        begin
            execute 'select ' || v_calls using p_last;
        exception
            -- These errors are not errors of the rules.
            when admin_shutdown or crash_shutdown or deadlock_detected or lock_not_available then
                raise;
            when others then
                v_alone := v_held;
        end;
    end if;
    if v_alone is not null then
        perform app.apply(name, position, p_last)
        from app.projection
        where name = any (v_alone) and (position <> p_first - 1 or handles && p_types);
    end if;
    update app.projection set position = p_last where name = any (v_held) and halted_at is null;
end
$$;
