-- Updates the read models in the transaction that appended the events `p_first` to `p_last`. Each
-- append calls it once.
--
-- A read model that follows the log is at `p_first` - 1 by definition, so no checkpoint is written. A
-- read model that does not follow continues from its own checkpoint, and follows from then on. The
-- append passes over it if another transaction has locked it (a catch-up, a swap), so no append
-- waits, and if it is far behind.
--
-- A read model that is not inline never follows. But an append that erases waits for its lock and
-- brings it up to the log, so that nothing of the erased text stays in its rows.
--
-- One dynamic statement calls all affected read models, because PostgreSQL plans a dynamic
-- statement at each call. If that statement fails, call them one by one: each sets the streams aside
-- that it fails on. A read model that has set streams aside is always called by itself.
create or replace function app.project_inline(p_first bigint, p_last bigint, p_types text[])
returns void
language plpgsql as $$
declare
    v_affected text[];
    v_alone    text[];
    v_calls    text;
    v_each     record;
    v_behind   boolean;
    v_erases   constant boolean := p_types && app.erasures();
begin
    lock table app.follow_lock in row exclusive mode;
    select
        array_agg(name) filter (where follows),
        array_agg(name) filter (where follows and set_aside > 0),
        string_agg(format('app.apply_%s($1, $2)', name), ', ' order by name)
            filter (where follows and set_aside = 0),
        bool_or(not follows)
    into v_affected, v_alone, v_calls, v_behind
    from app.projection
    where follows and handles && p_types or is_inline and not follows;
    if v_calls is not null then
        begin
            execute 'select ' || v_calls using p_first - 1, p_last;
        exception
            -- These errors are not errors of the rules.
            when admin_shutdown or crash_shutdown or deadlock_detected or lock_not_available then
                raise;
            when others then
                v_alone := v_affected;
        end;
    end if;
    if v_alone is not null then
        perform app.apply(name, p_first - 1, p_last) from unnest(v_alone) as name;
    end if;

    if v_erases then
        perform from app.projection where not is_inline order by name for no key update;
    end if;
    if v_behind or v_erases then
        for v_each in
            select name, position, is_inline
            from app.projection
            where (is_inline or v_erases)
                and not follows and not is_paused and halted_at is null
                and (position > p_first - 1000 or not is_inline)
            order by name
            for no key update skip locked
        loop
            if app.apply(v_each.name, v_each.position, p_last) then
                update app.projection
                set follows = v_each.is_inline, position = p_last
                where name = v_each.name;
            end if;
        end loop;
    end if;
end
$$;
