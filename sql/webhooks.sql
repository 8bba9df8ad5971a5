-- Webhooks, how far each of them is, and the events that were not taken.

-- name: lock
-- Lets one request at a time add a webhook of a tenant. The lock is a statement of its own: the next
-- statement sees the webhooks that were added while this statement waited.
select pg_advisory_xact_lock(hashtextextended('webhooks ' || %(tenant_id)s, 0))

-- name: add
-- Adds no row where the tenant has as many webhooks as it may have.
insert into app.webhook (tenant_id, webhook_id, url, types, description, secret, position)
select
    %(tenant_id)s, %(webhook_id)s, %(url)s, %(types)s::text[], %(description)s, %(secret)s,
    app.log_head()
where (select count(*) from app.webhook where tenant_id = %(tenant_id)s) < %(most)s
returning webhook_id

-- name: webhooks_of
-- One webhook, or all of the tenant, oldest first.
select
    webhook_id, url, types, description, is_enabled, created_at, position,
    app.cursor_at(position) as cursor, tries, next_try_at,
    error, case when old_secret_until > now() then old_secret_until end as old_secret_until
from app.webhook
where tenant_id = %(tenant_id)s
    and (%(webhook_id)s::text is null or webhook_id = %(webhook_id)s)
order by created_at, webhook_id

-- name: change
-- A member that is null stays as it is; no types at all stand for all types. Another secret leaves the
-- old one valid for a while. A webhook that is enabled tries at once.
update app.webhook
set
    url = coalesce(%(url)s, url),
    types = case when %(types)s::text[] is null then types else nullif(%(types)s::text[], '{}') end,
    description = coalesce(%(description)s, description),
    is_enabled = coalesce(%(is_enabled)s, is_enabled),
    secret = coalesce(%(secret)s, secret),
    old_secret = case when %(secret)s::text is null then old_secret else secret end,
    old_secret_until = case
        when %(secret)s::text is null then old_secret_until
        else now() + make_interval(secs => %(seconds)s)
    end,
    next_try_at = null,
    revision = revision + 1
where tenant_id = %(tenant_id)s and webhook_id = %(webhook_id)s
returning webhook_id

-- name: remove
delete from app.webhook
where tenant_id = %(tenant_id)s and webhook_id = %(webhook_id)s
returning webhook_id

-- name: dead_letters
-- The newest first.
select position, type, error, given_up_at, is_wanted
from app.webhook_dead_letter
where tenant_id = %(tenant_id)s and webhook_id = %(webhook_id)s
order by position desc

-- name: redeliver
with webhook as (
    update app.webhook
    set revision = revision + 1
    where tenant_id = %(tenant_id)s and webhook_id = %(webhook_id)s
    returning tenant_id, webhook_id
),
wanted as (
    update app.webhook_dead_letter
    set is_wanted = true
    from webhook
    where webhook_dead_letter.tenant_id = webhook.tenant_id
        and webhook_dead_letter.webhook_id = webhook.webhook_id
    returning 1
)
select (select count(*) from wanted) from webhook

-- part: claimed
-- What a process needs to deliver to a webhook.
tenant_id, webhook_id, url, types, secret, revision, position, tries, next_try_at,
    case when old_secret_until > now() then old_secret end as old_secret

-- name: lock_claims
-- Lets one process claim at a time. The lock is a statement of its own: the next statement sees the
-- leases that were taken, and the webhooks that were claimed, while this statement waited.
select pg_advisory_xact_lock(hashtextextended('claim of webhooks', 0))

-- name: claim
-- Takes the webhooks that no living process delivers, and returns all that are this process's. A
-- lease that was released is free at once. A lease counts as expired only if the lease of this process
-- is `judging`, as for the replies that no process writes (`orphans` in sql/projections/replies.sql).
with claimed as (
    update app.webhook
    set lease_id = %(lease_id)s
    where is_enabled
        and lease_id is distinct from %(lease_id)s
        and case
            when not exists (select from app.lease where epoch = lease_id) then true
            when not exists (
                select from app.lease as judging
                where judging.epoch = %(lease_id)s
                    and judging.until = %(until)s
                    and judging.until > now() + make_interval(secs => %(lease_seconds)s / 2)
            ) then false
            when pg_postmaster_start_time() >= now() - make_interval(secs => %(grace_seconds)s)
                then false
            else (select until from app.lease where epoch = lease_id) <= now()
        end
    returning {claimed}
)
select * from claimed
union all
select {claimed}
from app.webhook
where is_enabled and lease_id = %(lease_id)s

-- part: as_claimed
-- The webhook as this process knows it: nobody changed it, and no other process has it.
tenant_id = %(tenant_id)s
    and webhook_id = %(webhook_id)s
    and lease_id = %(lease_id)s
    and revision = %(revision)s

-- name: took
-- An event was taken. No row where the webhook has changed, or is another process's.
update app.webhook
set position = %(position)s, tries = 0, next_try_at = null, error = null
where {as_claimed}
returning webhook_id

-- name: failed
-- An event was not taken. It is tried again.
update app.webhook
set
    tries = tries + 1,
    error = %(error)s,
    next_try_at = now() + make_interval(secs => %(seconds)s)
where {as_claimed}
returning webhook_id

-- name: give_up
-- An event is put aside after all tries. Only the newest of such events are kept.
with webhook as (
    update app.webhook
    set position = %(position)s, tries = 0, next_try_at = null, error = %(error)s
    where {as_claimed}
    returning tenant_id, webhook_id
),
surplus as (
    delete from app.webhook_dead_letter
    where (tenant_id, webhook_id, position) in (
        select tenant_id, webhook_id, webhook_dead_letter.position
        from app.webhook_dead_letter
        join webhook using (tenant_id, webhook_id)
        order by webhook_dead_letter.position desc
        offset %(most)s - 1
    )
)
insert into app.webhook_dead_letter (tenant_id, webhook_id, position, type, error)
select tenant_id, webhook_id, %(position)s, %(type)s, %(error)s from webhook
on conflict (tenant_id, webhook_id, position) do update set error = excluded.error
returning webhook_id

-- name: disable
-- The receiver has said that it is gone for ever.
update app.webhook
set is_enabled = false, error = %(error)s, revision = revision + 1
where {as_claimed}
returning webhook_id

-- name: wanted
-- The oldest first.
select position
from app.webhook_dead_letter
where tenant_id = %(tenant_id)s and webhook_id = %(webhook_id)s and is_wanted
order by position

-- name: redelivered
-- An event that was sent once more. Without an error it was taken. No row where the webhook has
-- changed: then the event is still wanted, and is sent as the tenant wants it now.
with webhook as (
    select tenant_id, webhook_id
    from app.webhook
    where {as_claimed}
    for update
),
taken as (
    delete from app.webhook_dead_letter
    using webhook
    where webhook_dead_letter.tenant_id = webhook.tenant_id
        and webhook_dead_letter.webhook_id = webhook.webhook_id
        and webhook_dead_letter.position = %(position)s
        and %(error)s::text is null
),
refused as (
    update app.webhook_dead_letter
    set is_wanted = false, error = %(error)s
    from webhook
    where webhook_dead_letter.tenant_id = webhook.tenant_id
        and webhook_dead_letter.webhook_id = webhook.webhook_id
        and webhook_dead_letter.position = %(position)s
        and %(error)s::text is not null
)
select webhook_id from webhook
