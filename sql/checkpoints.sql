-- Where the read models stand, and moving one by hand.

-- name: status
select
    name, version, position, halted_at, halted_before, halted_reason,
    app.log_head() as head
from app.projection
order by name

-- name: stand
select version, position from app.projection where name = %(name)s

-- name: hold
-- Where a read model stands, while nobody else moves it.
select version, position from app.projection where name = %(name)s for no key update

-- name: behind
-- The read models that are not at the head; halted ones too, for they may have been mended.
select name
from app.projection
where position < (select coalesce(max(event.position), 0) from app.event)
order by name

-- name: catch_up
-- One step of a read model; meanwhile the writers pass it by.
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
-- One rebuild or verification of a read model at a time, held by the session.
select pg_try_advisory_lock(hashtextextended(%(work)s, 0))

-- name: disclaim
select pg_advisory_unlock(hashtextextended(%(work)s, 0))

-- name: apart
-- Row level security, as on everything that belongs to tenants.
select app.keep_tenants_apart(%(table)s::regclass)
