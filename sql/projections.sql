-- The checkpoints of the read models: read them, move them, and reset them after a rebuild.
--
-- The checkpoint of a read model that follows the log is the head. Its column is not written then.

-- name: status
select
    name, version, case when follows then app.log_head() else position end as position, halted_at, halted_before, halted_reason, set_aside,
    app.log_head() as head
from app.projection
order by name

-- name: checkpoint
select version, case when follows then app.log_head() else position end
from app.projection
where name = %(name)s

-- name: reached
-- The position of one read model, and the names of all that have set any stream aside.
select
    case when follows then app.log_head() else position end,
    array(select incomplete.name from app.projection as incomplete where incomplete.set_aside > 0)
from app.projection
where name = %(name)s

-- name: stop
-- Let appends leave this read model alone until it is caught up.
select app.stop_following(%(name)s)

-- name: lock
-- Lock a read model that does not follow the log. Until the transaction ends, appends leave it
-- behind. Returns whether it follows, because an append was faster.
select follows from app.projection where name = %(name)s for no key update

-- name: behind
-- The read models that are not at the head of the log. Halted read models are among them: somebody
-- may have mended their rules.
select name
from app.projection
where not follows and position < (select coalesce(max(event.position), 0) from app.event)
order by name

-- name: catch_up
-- Apply the next events to one read model that does not follow. Returns whether that worked, and
-- the new position.
select app.apply(name, projection.position, upto), upto
from app.projection
cross join lateral (
    select least(projection.position + %(step)s, coalesce(max(event.position), 0)) as upto
    from app.event
) as next
where name = %(name)s and not follows

-- name: project_around
-- Apply a range to the read model of a schema. See sql/functions/project_around.sql.
select app.project_around(%(schema)s, %(name)s, %(after)s, %(upto)s)

-- name: move
update app.projection
set position = %(position)s, is_paused = false, halted_at = null, halted_before = null, halted_reason = null
where name = %(name)s

-- name: register
insert into app.projection (name, version, handles, is_inline, position, set_aside)
select
    %(name)s, %(version)s, %(handles)s, %(is_inline)s, %(position)s,
    (select count(*) from app.set_aside where projection = %(name)s)
on conflict (name) do update set
    version = excluded.version,
    handles = excluded.handles,
    is_inline = excluded.is_inline,
    position = excluded.position,
    follows = false,
    is_paused = false,
    set_aside = excluded.set_aside,
    halted_at = null,
    halted_before = null,
    halted_reason = null

-- name: set_aside
-- The streams that read models have set aside. Temporary schemas have their own; see app.set_aside.
select set_aside.projection, tenant_id, stream_id, set_aside.position, reason
from app.set_aside
join app.projection on projection.name = set_aside.projection
order by set_aside.projection, set_aside.position

-- name: left_out
-- Which of these read models leave out one of these streams, or any stream of a project that all
-- its members see; in a wide search without a project any such stream of the tenant.
select distinct projection
from app.set_aside
where tenant_id = %(tenant_id)s
    and projection = any(%(names)s)
    and (
        stream_id = any(%(stream_ids)s)
        or %(is_wide)s
        and coalesce(project_id = %(project_id)s, %(project_id)s::text is null)
        and stream_id not like 'session-private-%%'
    )
order by projection

-- name: copy_set_aside
-- Let a temporary schema leave out what the read model leaves out.
insert into app.set_aside (projection, tenant_id, stream_id, project_id, position, reason, at)
select %(schema)s, tenant_id, stream_id, project_id, position, reason, at
from app.set_aside
where projection = %(name)s

-- name: keep_set_aside
-- Let a read model leave out what the temporary schema left out.
update app.set_aside set projection = %(name)s where projection = %(schema)s

-- name: forget_set_aside
delete from app.set_aside where projection = %(projection)s

-- name: head
select app.log_head()

-- name: claim
-- Only one rebuild or verification of a read model runs at a time. Returns no row if another
-- backend, which has not ended, does it.
insert into app.rebuild (projection, pid, started_at)
select %(name)s, pid, backend_start
from pg_stat_activity
where pid = pg_backend_pid()
on conflict (projection) do update set pid = excluded.pid, started_at = excluded.started_at
where not exists (
    select from pg_stat_activity
    where pg_stat_activity.pid = rebuild.pid and backend_start = rebuild.started_at
)
returning projection

-- name: abandoned
-- The read models whose rebuild or verification was interrupted: its backend has ended.
select projection
from app.rebuild
where not exists (
    select from pg_stat_activity
    where pg_stat_activity.pid = rebuild.pid and backend_start = rebuild.started_at
)

-- name: release
delete from app.rebuild where projection = %(name)s

-- name: separate_tenants
-- Row level security, as on every table that holds rows of tenants.
select app.keep_tenants_apart(%(table)s::regclass)

-- name: service_role
select app.service_role()
