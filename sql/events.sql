-- Append to the log, and read it.
--
-- A read of events has the last four bytes of the append's id as its last column: with the position
-- they are the cursor of the event, as app.cursor_of makes it. The text of it would cost more than all
-- other columns together, and few readers need it.

-- name: append
-- The fast way: append the whole batch at the head that the writer remembers. If another process
-- appended meanwhile, the primary key refuses the batch. If the remembered head is not in the log,
-- the last condition refuses it. So no writer can leave a gap. Returns the number of rows and the
-- time.
with appended as (
    insert into app.event (
        position, append_id, tenant_id, stream_id, version,
        type, schema_version, project_id, state, metadata, recorded_at
    )
    select
        %(last)s + n, append_id, tenant_id, stream_id, version,
        type, schema_version, project_id, state, metadata::json, statement_timestamp()
    from unnest(
        %(append_id)b::uuid[], %(tenant_id)b::text[], %(stream_id)b::text[], %(version)b::int4[],
        %(type)b::text[], %(schema_version)b::int2[], %(project_id)b::text[],
        %(state)b::bytea[], %(metadata)b::text[]
    ) with ordinality as each (
        append_id, tenant_id, stream_id, version,
        type, schema_version, project_id, state, metadata, n
    )
    where %(last)s = 0 or exists (select from app.event where position = %(last)s)
    returning position
)
select
    count(*),
    statement_timestamp(),
    app.appended(%(last)s + 1, %(last)s + count(*), %(types)b::text[])
from appended
having count(*) > 0

-- name: append_locked
-- The safe way, after the fast way was refused. See sql/functions/append_locked.sql.
select item, first_position, recorded_at, stream_id, version, head
from app.append_locked(
    %(item)b::int4[], %(append_id)b::uuid[], %(tenant_id)b::text[], %(stream_id)b::text[],
    %(version)b::int4[], %(type)b::text[], %(schema_version)b::int2[], %(project_id)b::text[],
    %(state)b::bytea[], %(metadata)b::text[]
)

-- name: limit_statements
-- The server ends each statement of this session that takes longer than this number of seconds.
select set_config('statement_timeout', %(seconds)s || 's', false)

-- name: heads
-- The version of each of these streams. A stream without events has no row.
select each.n - 1, latest.version
from unnest(%(tenant_id)b::text[], %(stream_id)b::text[])
    with ordinality as each (tenant_id, stream_id, n)
cross join lateral (
    select version
    from app.event
    where event.tenant_id = each.tenant_id and event.stream_id = each.stream_id
    order by version desc
    limit 1
) as latest

-- name: head
select app.log_head()

-- name: head_cursor
select app.cursor_at(app.log_head())

-- name: cursor_at
select app.cursor_at(%(position)s)

-- name: lost_cursors
-- Returns each of these cursors that names no event of the log. A former primary also lacks the
-- newest events, as long as it does not know of the promotion of another server. So a statement that
-- misses an event writes to the WAL: its commit waits for a standby, and a former primary has none.
select cursor
from unnest(%(cursors)s::text[]) as cursor
where case
    when cursor is not distinct from app.cursor_at(split_part(cursor, '.', 1)::bigint) then false
    when pg_is_in_recovery() then true
    else pg_logical_emit_message(true, 'throughline', '') is not null
end

-- name: confirm
-- Writes a record to the WAL, so that the commit waits for a standby. A standby that has this commit has
-- all earlier commits, too.
select pg_logical_emit_message(true, 'throughline', '')

-- name: stream
-- The events of one stream after a version, in order.
select position, tenant_id, stream_id, version, type, schema_version,
       project_id, state, metadata::text, recorded_at, substr(uuid_send(append_id), 13)
from app.event
where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s and version > %(after)s
order by version

-- name: stream_of_types
-- The events of one stream that have one of these types, in order.
select position, tenant_id, stream_id, version, type, schema_version,
       project_id, state, metadata::text, recorded_at, substr(uuid_send(append_id), 13)
from app.event
where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s and type = any (%(types)s)
order by version

-- name: stream_backwards
-- A page of one stream before a version, only events of some types, the newest event first: up to the
-- event with which their states come to so many bytes. The size of a state is known without its text.
select version, type, state, recorded_at
from (
    select
        version, type, state, recorded_at,
        sum(octet_length(state)) over (
            order by version desc rows unbounded preceding
        ) as bytes
    from (
        select version, type, state, recorded_at
        from app.event
        where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s and version < %(before)s
            and type = any(%(types)s::text[])
        order by version desc
        limit %(limit)s
    ) as newest
) as counted
where bytes - octet_length(state) < %(bytes)s
order by version desc

-- name: event_metadata
-- The metadata of one event of a stream.
select metadata
from app.event
where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s and version = %(version)s

-- name: streams
-- Returns the events of several streams, each stream in order and after a version. Where a stream has
-- a snapshot of the wanted form after that version, its first row is the newest snapshot, and the
-- type of this row is the form. The second row is the event with the texts that the snapshot leaves
-- out. The events after the snapshot follow.
-- `greatest` leaves out a null as `coalesce` does. But row level security takes `coalesce` for a
-- function that may leak rows: the index would not be used for the version, and each read would pass
-- through the whole stream.
select event.position, event.tenant_id, event.stream_id, event.version, event.type,
       event.schema_version, event.project_id, event.state, event.metadata, event.recorded_at,
       event.append_tail
from unnest(%(stream_id)s::text[], %(after)s::int4[], %(form)s::text[])
    as each (stream_id, after, form)
left join lateral (
    select version, state, text_version
    from app.snapshot
    where snapshot.tenant_id = %(tenant_id)s
        and snapshot.stream_id = each.stream_id
        and snapshot.type = each.form
        and snapshot.version > each.after
    order by version desc
    limit 1
) as kept on each.form is not null
cross join lateral (
    select 0 as part, 0::bigint as position, %(tenant_id)s::text as tenant_id, each.stream_id,
           kept.version, each.form as type, 1::int2 as schema_version, null::text as project_id,
           kept.state, '{}' as metadata, now() as recorded_at, ''::bytea as append_tail
    where kept.version is not null
    union all
    select 1, position, tenant_id, stream_id, version, type, schema_version, project_id, state,
           metadata::text, recorded_at, substr(uuid_send(append_id), 13)
    from app.event
    where event.tenant_id = %(tenant_id)s
        and event.stream_id = each.stream_id
        and event.version = kept.text_version
    union all
    (
        select 2, position, tenant_id, stream_id, version, type, schema_version,
               project_id, state, metadata::text, recorded_at,
               substr(uuid_send(append_id), 13)
        from app.event
        where event.tenant_id = %(tenant_id)s
            and event.stream_id = each.stream_id
            and event.version > greatest(kept.version, each.after)
        order by version
    )
) as event
order by event.stream_id, event.part, event.version

-- name: keep_snapshot
insert into app.snapshot (tenant_id, stream_id, version, type, state, text_version)
values (
    %(tenant_id)s, %(stream_id)s, %(version)s, %(form)s, %(state)s, %(text_version)s::integer
)
on conflict do nothing

-- name: remove_older_snapshots
-- Snapshots of another form stay: processes of another version of the service may still read them.
delete from app.snapshot
where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s and type = %(form)s
    and version < %(version)s

-- name: range
-- The events of the log between two positions, in order.
select position, tenant_id, stream_id, version, type, schema_version,
       project_id, state, metadata::text, recorded_at, substr(uuid_send(append_id), 13)
from app.event
where position > %(after)s and position <= %(upto)s
order by position
limit %(limit)s

-- name: tenant_range
-- The events of a tenant between two positions, in order. `types` null selects all types.
select position, tenant_id, stream_id, version, type, schema_version,
       project_id, state, metadata::text, recorded_at, substr(uuid_send(append_id), 13)
from app.tenant_range(
    %(tenant_id)s, %(after)s, %(upto)s, %(types)s::text[], %(limit)s
)
order by position

-- name: project_range
-- The events of a project between two positions, in order. `types` null selects all types.
select position, tenant_id, stream_id, version, type, schema_version,
       project_id, state, metadata::text, recorded_at, substr(uuid_send(append_id), 13)
from app.project_range(
    %(tenant_id)s, %(project_id)s, %(after)s, %(upto)s, %(types)s::text[], %(limit)s
)
order by position

-- name: clock
-- The database's clock, because all servers share it.
select clock_timestamp()
