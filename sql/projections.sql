-- The checkpoints of the read models: read them, move them, and reset them after a rebuild.

-- name: status
select
    name, version, position, halted_at, halted_before, halted_reason,
    app.log_head() as head
from app.projection
order by name

-- name: checkpoint
select version, position from app.projection where name = %(name)s

-- name: lock
-- Lock the checkpoint. Until the transaction ends, appends leave this read model behind.
select version, position from app.projection where name = %(name)s for no key update

-- name: behind
-- The read models that are not at the head of the log. Halted read models are among them: somebody
-- may have mended their rules.
select name
from app.projection
where position < (select coalesce(max(event.position), 0) from app.event)
order by name

-- name: catch_up
-- Apply the next events to one read model. Returns whether that worked, and the new position.
select app.apply(name, projection.position, upto), upto
from app.projection
cross join lateral (
    select least(projection.position + %(step)s, coalesce(max(event.position), 0)) as upto
    from app.event
) as next
where name = %(name)s

-- name: move
update app.projection
set position = %(position)s, halted_at = null, halted_before = null, halted_reason = null
where name = %(name)s

-- name: register
insert into app.projection (name, version, handles, position)
values (%(name)s, %(version)s, %(handles)s, %(position)s)
on conflict (name) do update set
    version = excluded.version,
    handles = excluded.handles,
    position = excluded.position,
    halted_at = null,
    halted_before = null,
    halted_reason = null

-- name: head
select app.log_head()

-- name: claim
-- Only one rebuild or verification of a read model runs at a time. The database session holds this
-- lock. Returns false if another session holds it.
select pg_try_advisory_lock(hashtextextended(%(work)s, 0))

-- name: release
select pg_advisory_unlock(hashtextextended(%(work)s, 0))

-- name: separate_tenants
-- Row level security, as on every table that holds rows of tenants.
select app.keep_tenants_apart(%(table)s::regclass)
