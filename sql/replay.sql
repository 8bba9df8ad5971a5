-- Read the log for exports and replays, fill an empty log from an export, and find the faults of a log.
--
-- The owner of the database runs these statements.

-- name: in_order
-- Let the planner read by position. A sort of the whole log would not fit into memory.
select set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true)

-- part: columns
append_id, position, tenant_id, stream_id, version, type, schema_version,
    project_id, state, metadata::text, recorded_at, substr(uuid_send(append_id), 13)

-- part: chosen
-- The events of a filter. Null in a condition selects all.
(%(tenant_id)s::text is null or tenant_id = %(tenant_id)s)
    and (%(project_id)s::text is null or project_id = %(project_id)s)
    and (%(stream_ids)s::text[] is null or stream_id = any (%(stream_ids)s))
    and (%(types)s::text[] is null or type = any (%(types)s))

-- name: whole
copy (
    select {columns}
    from app.event
    where position > %(after)s and position <= %(upto)s
        and {chosen}
    order by position
) to stdout (format binary)

-- name: page
select {columns}
from app.event
where position > %(after)s and position <= %(upto)s
    and {chosen}
order by position
limit %(limit)s

-- name: newest
-- The cursors of the newest selected events up to a position, the newest first.
select app.cursor_of(position, append_id)
from app.event
where position <= %(upto)s
    and {chosen}
order by position desc
limit %(limit)s

-- name: since
-- The first position that was recorded at a time or later; null if there is none.
select min(position) from app.event where recorded_at >= %(moment)s

-- name: append_at
-- The append that wrote a position.
select append_id from app.event where position = %(position)s

-- name: incoming
-- COPY cannot fill a table with row level security, so it fills this table first.
create temporary table if not exists incoming (
    append_id      uuid        not null,
    position       bigint      not null,
    tenant_id      text        not null,
    stream_id      text        not null,
    version        integer     not null,
    type           text        not null,
    schema_version smallint    not null,
    project_id     text,
    state          bytea       not null,
    metadata       text        not null,
    recorded_at    timestamptz not null
) on commit delete rows

-- name: copy_in
copy incoming (
    append_id, position, tenant_id, stream_id, version, type, schema_version,
    project_id, state, metadata, recorded_at
) from stdin (format binary)

-- name: alone
-- Let no append in until the transaction ends.
lock table app.event in share row exclusive mode

-- name: fill
insert into app.event (
    position, version, schema_version, append_id, recorded_at,
    tenant_id, stream_id, type, project_id, state, metadata
)
select
    position, version, schema_version, append_id, recorded_at,
    tenant_id, stream_id, type, project_id, state, metadata::json
from incoming
order by position

-- name: mask
-- Erase what the events of a range erase, as their appends did.
select app.mask(%(first)s, %(last)s)

-- name: skip_leases
-- Let no process get a lease that an imported reply names: the reply would seem to go on there.
select setval('app.lease_epoch_seq', greatest(%(lease_id)s, last_value)) from app.lease_epoch_seq

-- name: missing_positions
-- Each position that is not the next number after the position before it. Before the first position
-- of the log `before` is null.
select position, before
from (select position, lag(position) over (order by position) as before from app.event) as each
where position <> coalesce(before, 0) + 1
order by position
limit %(most)s

-- name: wrong_versions
-- The events of a stream have the versions 1, 2, 3 and so on, in the order of their positions. This
-- statement finds each event that breaks this rule. A stream of the eventsourcing library may begin
-- with the version 0.
select position, stream_id, version, before
from (
    select
        position, stream_id, version,
        lag(version) over stream as before,
        lag(position) over stream as place_before
    from app.event
    window stream as (partition by tenant_id, stream_id order by version)
) as each
where version <> before + 1 or position < place_before or before is null and version not in (0, 1)
order by position
limit %(most)s

-- name: split_appends
-- The events of an append have positions without a gap, and the same time. This statement finds each
-- append that breaks this rule.
select min(position), max(position)
from app.event
group by append_id
having max(position) - min(position) + 1 <> count(*) or min(recorded_at) <> max(recorded_at)
order by 1
limit %(most)s

-- name: snapshots
-- The snapshots of states that have one of these forms, stream by stream, in order.
select tenant_id, stream_id, version, type, state, text_version
from app.snapshot
where type = any (%(forms)s)
order by tenant_id, stream_id, version

-- name: events_between
-- The events of a stream with a version above one and up to another, in order.
select version, type, state
from app.event
where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s
    and version > %(after)s and version <= %(upto)s
order by version

-- name: unmasked
-- Each event that still has a text, though a later event of the same stream erases that text.
select distinct event.position, erased.position
from app.event as erased
join app.event
    on event.tenant_id = erased.tenant_id
    and event.stream_id = erased.stream_id
    and event.version < erased.version
where erased.type = any (app.erasures())
    and app.erases(erased.type, erased.state, event.type, event.state)
    and event.state <> app.masked(event.state)
order by 1, 2
limit %(most)s
