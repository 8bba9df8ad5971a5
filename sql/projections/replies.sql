-- The replies, one row a reply: its project and session, the lease of the process that writes it,
-- and the position where it ended. The column `epoch` is the lease's id, `message_id` the reply's
-- id. A reply of a private session is seen by the user `private_to` alone; it is empty for a reply
-- that all members of the project see.

-- name: table
create table replies (
    tenant_id        text        not null collate "C",
    message_id       text        not null collate "C",
    project_id       text        not null collate "C",
    session_id       text        not null collate "C",
    private_to       text        not null default '' collate "C",
    epoch            bigint      not null,
    started_at       timestamptz not null,
    started_position bigint      not null,
    ended_position   bigint,
    primary key (tenant_id, message_id)
) with (fillfactor = 80);
create index replies_running on replies (tenant_id, project_id) where ended_position is null;
grant select, insert, update, delete on replies to throughline_service;

-- name: apply
create or replace function apply_replies(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    -- A reply starts again when another process takes it over; the last start counts.
    insert into replies (
        tenant_id, message_id, project_id, session_id, private_to, epoch, started_at, started_position
    )
    select distinct on (event.tenant_id, state.message_id)
        event.tenant_id, state.message_id, event.project_id, state.session_id,
        case
            when event.stream_id like 'session-private-%'
                then app.private_to(event.tenant_id, event.stream_id)
            else ''
        end,
        coalesce(state.epoch, 0), event.recorded_at, event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        message_id text, session_id text, epoch bigint
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'ReplyStarted'
    order by event.tenant_id, state.message_id, event.position desc
    on conflict (tenant_id, message_id) do update set
        epoch = excluded.epoch,
        started_at = excluded.started_at,
        started_position = excluded.started_position;

    update replies
    set ended_position = event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        message_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type in ('ReplyCompleted', 'ReplyFailed')
        and replies.tenant_id = event.tenant_id
        and replies.message_id = state.message_id;

    -- The replies of deleted sessions.
    delete from replies
    using event as erased
    join event
        on event.tenant_id = erased.tenant_id and event.stream_id = erased.stream_id
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        message_id text
    )
    where erased.position > p_after and erased.position <= p_upto
        and erased.type = 'SessionDeleted'
        and event.type = 'ReplyStarted'
        and replies.tenant_id = event.tenant_id
        and replies.message_id = state.message_id;
end
$$;

-- name: of_id
select
    tenant_id, project_id, session_id, private_to, message_id as reply_id, epoch as lease_id,
    started_at, ended_position
from app.replies
where tenant_id = %(tenant_id)s and message_id = %(reply_id)s

-- name: running
-- The running replies that all members of a project see.
select
    tenant_id, project_id, session_id, private_to, message_id as reply_id, epoch as lease_id,
    started_at, ended_position
from app.replies
where tenant_id = %(tenant_id)s and project_id = %(project_id)s and ended_position is null
    and private_to = ''
order by started_position desc
limit %(limit)s

-- name: running_of_session
-- The running replies of a session. The caller knows who may see the session.
select
    tenant_id, project_id, session_id, private_to, message_id as reply_id, epoch as lease_id,
    started_at, ended_position
from app.replies
where tenant_id = %(tenant_id)s and project_id = %(project_id)s and session_id = %(session_id)s
    and ended_position is null
order by started_position desc
limit %(limit)s

-- name: orphans
-- Running replies that no process writes. Their lease was released, or it has expired, or they have
-- this process's lease, but this process does not know them (`here`) some seconds after they
-- started.
--
-- A database that stands still lets all leases expire, and then runs the statements that waited in
-- any order. So nothing counts as expired unless the lease of this process is `judging`: it is as
-- this process knows it, and was renewed in the last half of its time. Right after a start of
-- PostgreSQL there are no orphans, because nobody could renew a lease meanwhile.
select
    tenant_id, project_id, session_id, private_to, message_id as reply_id, replies.epoch as lease_id,
    started_at, ended_position
from app.replies
left join app.lease as judging
    on judging.epoch = %(lease_id)s
    and judging.until = %(until)s
    and judging.until > now() + make_interval(secs => %(lease_seconds)s / 2)
left join app.lease on lease.epoch = replies.epoch
where ended_position is null
    and message_id <> all (%(here)s::text[])
    and case
        when lease.epoch is null then true
        when judging.epoch is null then false
        when replies.epoch = judging.epoch then
            started_at < now() - make_interval(secs => %(lease_seconds)s)
        else lease.until <= now()
    end
    and pg_postmaster_start_time() < now() - make_interval(secs => %(grace_seconds)s)
order by started_position
limit %(limit)s
