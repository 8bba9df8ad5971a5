-- Appends move read models by what they appended, whoever else appends meanwhile, and with less
-- ceremony; pages of a tenant or a project are read by their index, whatever the planner believes
-- about the log.

-- The sure way to append, taken when the quick one (a plain insert at the head that the writer
-- remembers) met another writer: takes a lock, reads the head, answers each item by itself and
-- appends the rest. An item is one append: the events with the same `item` number.
--
-- Answers a row an item: `first_position` where its events are, appended now or by an earlier try
-- with the same append id; or null, and the stream that was in the way with the version it has.
-- Writers on the quick way do not take the lock, so the insert can still meet one: the unique
-- violation then ends the statement, and the caller calls again.
create or replace function app.append_locked(
    p_item           integer[],
    p_append_id      uuid[],
    p_tenant_id      text[],
    p_stream_id      text[],
    p_version        integer[],
    p_type           text[],
    p_schema_version smallint[],
    p_project_id     text[],
    p_state          bytea[],
    p_metadata       text[]
) returns table (
    item           integer,
    first_position bigint,
    recorded_at    timestamptz,
    stream_id      text,
    version        integer,
    head           bigint
)
language plpgsql
-- Its plans are made when the log is young and kept while it grows.
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    v_answered integer[] := '{}';
    v_last     bigint;
begin
    perform pg_advisory_xact_lock(hashtextextended('throughline.append', 0));
    head := coalesce((select max(position) from app.event), 0);

    -- The items that are not to be appended: one row each, an own earlier try before a rival.
    for item, first_position, recorded_at, stream_id, version in
        with wanted as (
            -- Each stream of each item, with the version that its first event asks for.
            select distinct on (item, tenant_id, stream_id)
                item, append_id, tenant_id, stream_id, version, n
            from unnest(p_item, p_append_id, p_tenant_id, p_stream_id, p_version)
                with ordinality as each (item, append_id, tenant_id, stream_id, version, n)
            order by item, tenant_id, stream_id, n
        )
        select distinct on (wanted.item)
            wanted.item, known.position, known.recorded_at, wanted.stream_id, latest.version
        from wanted
        left join lateral (
            select event.version
            from app.event
            where event.tenant_id = wanted.tenant_id and event.stream_id = wanted.stream_id
            order by event.version desc
            limit 1
        ) as latest on true
        left join lateral (
            select event.position, event.recorded_at
            from app.event
            where event.tenant_id = wanted.tenant_id
                and event.stream_id = wanted.stream_id
                and event.version = wanted.version
                and event.append_id = wanted.append_id
        ) as known on true
        where wanted.version <> latest.version + 1
            or (latest.version is null and wanted.version not in (0, 1))
        order by wanted.item, wanted.n
    loop
        v_answered := v_answered || item;
        return next;
    end loop;

    return query
    with accepted as (
        select *, head + row_number() over (order by n) as position
        from unnest(
            p_item, p_append_id, p_tenant_id, p_stream_id, p_version,
            p_type, p_schema_version, p_project_id, p_state, p_metadata
        ) with ordinality as each (
            item, append_id, tenant_id, stream_id, version,
            type, schema_version, project_id, state, metadata, n
        )
        where item <> all (v_answered)
    ),
    inserted as (
        insert into app.event (
            position, version, schema_version, append_id, recorded_at,
            tenant_id, stream_id, type, project_id, state, metadata
        )
        select
            position, version, schema_version, append_id, statement_timestamp(),
            tenant_id, stream_id, type, project_id, state, metadata::json
        from accepted
    )
    select
        accepted.item, min(accepted.position), statement_timestamp(), null::text, null::integer, head
    from accepted
    group by accepted.item;

    -- What was appended here. The log's head may be further by now, when nothing was.
    v_last := head + (select count(*) from unnest(p_item) as item where item <> all (v_answered));
    if v_last > head then
        perform app.appended(head + 1, v_last, p_type);
    end if;
end
$$;


-- Pages of the log. The primary key has the order too, and would tempt the planner to look for a
-- quiet project's events among everybody's. So bounds and order are a whole key of the one index
-- that is meant, and sorting is ruled out: plans are made when the log is young and kept.
create function app.tenant_range(
    p_tenant_id text, p_after bigint, p_upto bigint, p_types text[], p_limit integer
) returns setof app.event
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off
set enable_sort = off set enable_incremental_sort = off
as $$
begin
    return query
    select *
    from app.event
    where (tenant_id, position) > (p_tenant_id, p_after)
        and (tenant_id, position) <= (p_tenant_id, p_upto)
        and (p_types is null or type = any (p_types))
    order by tenant_id, position
    limit p_limit;
end
$$;

create function app.project_range(
    p_tenant_id text, p_project_id text, p_after bigint, p_upto bigint, p_types text[],
    p_limit integer
) returns setof app.event
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off
set enable_sort = off set enable_incremental_sort = off
as $$
begin
    return query
    select *
    from app.event
    where (tenant_id, project_id, position) > (p_tenant_id, p_project_id, p_after)
        and (tenant_id, project_id, position) <= (p_tenant_id, p_project_id, p_upto)
        and (p_types is null or type = any (p_types))
    order by tenant_id, project_id, position
    limit p_limit;
end
$$;


-- Carries the read models along inside the transaction that appended p_first ... p_last.
-- One that somebody else holds (a catch-up, a swap) is passed by, so nobody waits, and so is one
-- that is far behind. Each goes on from its own checkpoint, so none ever leaves an event out.
--
-- All whom the events concern are called in one statement, because what is dynamic is planned each
-- time. Only when that fails is each called by itself, and who is to blame halts.
create or replace function app.project_inline(p_first bigint, p_last bigint, p_types text[])
returns void
language plpgsql as $$
declare
    v_held  text[];
    v_calls text;
begin
    select
        array_agg(name),
        string_agg(format('app.apply_%s(%s, $1)', name, position), ', ' order by name)
            filter (where position <> p_first - 1 or handles && p_types)
    into v_held, v_calls
    from (
        select name, position, handles
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
            -- The caller's own troubles are not the rules'.
            when admin_shutdown or crash_shutdown or deadlock_detected or lock_not_available then
                raise;
            when others then
                perform app.apply(name, position, p_last)
                from app.projection
                where name = any (v_held) and (position <> p_first - 1 or handles && p_types);
        end;
    end if;
    update app.projection set position = p_last where name = any (v_held) and halted_at is null;
end
$$;
