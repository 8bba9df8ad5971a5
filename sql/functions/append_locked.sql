-- The safe way to append. The writer uses this function after its fast way (sql/events.sql) met
-- another writer. The function takes a lock, reads the head, checks each item, and appends the
-- items that pass. An item is one append: the events with the same number in `p_item`.
--
-- Returns one row an item. If the item is in the log, appended now or by an earlier try with the
-- same append id, then `first_position` is its position. If another append was first,
-- `first_position` is null, and `stream_id` and `version` say which stream has which version now.
--
-- The log may have an append of an earlier try that no standby has, because somebody interrupted the
-- earlier commit. If this call finds such an append, the call writes one more record to the WAL. Then
-- the commit of this call waits for a standby. A standby that has this commit has the earlier append.
--
-- A writer on the fast way does not take the lock. So the insert here can still meet another
-- writer; then it fails with a unique violation, and the caller calls again.
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
-- PostgreSQL keeps plans that it made for a small log. Never read the whole log.
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    v_answered integer[] := '{}';
    v_found    boolean := false;
    v_last     bigint;
begin
    lock table app.append_lock in exclusive mode;
    head := coalesce((select max(position) from app.event), 0);

    -- The items that are not appended, one row each: the item's first stream that has another
    -- version. If an earlier try appended the item, the row has the position.
    for item, first_position, recorded_at, stream_id, version in
        with wanted as (
            -- Each stream of each item, with the version of the item's first event in the stream.
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
        v_found := v_found or first_position is not null;
        return next;
    end loop;
    if v_found then
        perform pg_logical_emit_message(true, 'throughline', '');
    end if;

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

    -- Count the events of this call. If there are none, the head may have moved meanwhile.
    v_last := head + (select count(*) from unnest(p_item) as item where item <> all (v_answered));
    if v_last > head then
        perform app.appended(head + 1, v_last, p_type);
    end if;
end
$$;
