-- Where each read model stands, and how it is carried along with the log.

create table app.projection (
    name          text        not null collate "C",
    version       integer     not null,
    handles       text[]      not null,
    position      bigint      not null,
    halted_at     timestamptz,
    halted_before bigint,
    halted_reason text,
    constraint projection_pkey primary key (name)
) with (fillfactor = 50);

comment on table app.projection is 'Checkpoints: the read models and how far each has come.';
comment on column app.projection.version is 'The version of its rules; a higher one is a rebuild.';
comment on column app.projection.handles is 'The event types that change it.';
comment on column app.projection.position is 'All events up to this position are in its rows.';
comment on column app.projection.halted_at is 'When it stopped on an event that it cannot take.';
comment on column app.projection.halted_before is 'The position up to which it was to go then.';
comment on column app.projection.halted_reason is 'What the database said then.';

grant select, update on app.projection to throughline_service;


-- Folds the events in (p_after, p_upto] into one read model. A rule that fails leaves its rows as
-- they were and halts it with the reason, but never fails its caller. True when it went well.
create function app.apply(p_name text, p_after bigint, p_upto bigint) returns boolean
language plpgsql as $$
declare
    v_reason text;
begin
    execute format('select app.apply_%s($1, $2)', p_name) using p_after, p_upto;
    return true;
exception
    -- The caller's own troubles are not the rule's.
    when admin_shutdown or crash_shutdown or deadlock_detected or lock_not_available then
        raise;
    when others then
        get stacked diagnostics v_reason = message_text;
        update app.projection
        set
            halted_at = coalesce(halted_at, clock_timestamp()),
            halted_before = p_upto,
            halted_reason = v_reason
        where name = p_name;
        return false;
end
$$;


-- Carries the read models along inside the transaction that appended p_first ... p_last.
-- One that somebody else holds (a catch-up, a swap) is passed by, so nobody waits, and so is one
-- that is far behind. Each goes on from its own checkpoint, so none ever leaves an event out.
create function app.project_inline(p_first bigint, p_last bigint, p_types text[]) returns void
language plpgsql as $$
declare
    v_each  record;
    v_moved text[] := '{}';
begin
    for v_each in
        select name, position, position = p_first - 1 and not handles && p_types as unconcerned
        from app.projection
        where halted_at is null and position > p_first - 1000
        order by name
        for no key update skip locked
    loop
        if v_each.unconcerned or app.apply(v_each.name, v_each.position, p_last) then
            v_moved := v_moved || v_each.name;
        end if;
    end loop;
    if v_moved <> '{}' then
        update app.projection set position = p_last where name = any (v_moved);
    end if;
end
$$;


-- What analysts read. Its views are made with the read models that they show.
create schema analytics;
comment on schema analytics is 'Documented views of the read models, for analysts.';

do $$
begin
    create role throughline_analyst nologin;
exception
    when duplicate_object or unique_violation then null;
end
$$;

grant usage on schema app, analytics to throughline_analyst;
