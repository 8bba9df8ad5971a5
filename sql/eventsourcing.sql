-- Statements of the persistence module for the eventsourcing library. The events and their
-- positions are in the log; snapshots have a table of their own.

-- name: slice
select stream_id, version, type, state
from app.event
where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s
    and version > %(gt)s and version <= %(lte)s
order by version
limit %(limit)s

-- name: slice_desc
select stream_id, version, type, state
from app.event
where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s
    and version > %(gt)s and version <= %(lte)s
order by version desc
limit %(limit)s

-- name: snapshots
select stream_id, version, type, state
from app.snapshot
where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s
    and version > %(gt)s and version <= %(lte)s
order by version
limit %(limit)s

-- name: snapshots_desc
select stream_id, version, type, state
from app.snapshot
where tenant_id = %(tenant_id)s and stream_id = %(stream_id)s
    and version > %(gt)s and version <= %(lte)s
order by version desc
limit %(limit)s

-- name: store_snapshot
insert into app.snapshot (tenant_id, stream_id, version, type, state)
values (%(tenant_id)s, %(stream_id)s, %(version)s, %(type)s, %(state)s)

-- name: last_position
select position from app.event where tenant_id = %(tenant_id)s order by position desc limit 1
