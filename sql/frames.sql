-- Frames: the server-sent events of replies, stored before readers get them. The columns have older
-- names: `message_id` is the reply, `n` the frame's number, `epoch` the lease of the writing
-- process.

-- name: store
-- Store frames of any number of replies. If one number is taken, the key refuses all frames.
insert into app.reply_chunk (message_id, n, tenant_id, epoch, frame)
select message_id, n, tenant_id, %(lease_id)s, frame
from unnest(%(reply_id)b::text[], %(n)b::int4[], %(tenant_id)b::text[], %(frame)b::bytea[])
    as each (message_id, n, tenant_id, frame)

-- name: taken
-- Which of these numbers are taken, and under which lease.
select message_id, n, epoch
from app.reply_chunk
where (message_id, n) in (
    select message_id, n
    from unnest(%(reply_id)b::text[], %(n)b::int4[]) as each (message_id, n)
)

-- name: claim
-- Take one number if it is free. Returns no row if it is taken.
insert into app.reply_chunk (message_id, n, tenant_id, epoch, frame)
values (%(reply_id)s, %(n)s, %(tenant_id)s, %(lease_id)s, %(frame)s)
on conflict do nothing
returning n

-- name: after
-- The next frames of a reply.
select n, frame
from app.reply_chunk
where tenant_id = %(tenant_id)s and message_id = %(reply_id)s and n > %(after)s
    and frame is not null
order by n
limit %(limit)s

-- name: whole
-- All frames of a reply. The final event has a row with a null frame, because its text comes from
-- the log.
select n, stored_at, frame
from app.reply_chunk
where tenant_id = %(tenant_id)s and message_id = %(reply_id)s
order by n

-- name: newer
-- The next frames of several replies. This process watches these replies; other processes write
-- them.
select chunk.message_id, chunk.n, chunk.frame
from unnest(%(reply_id)b::text[], %(after)b::int4[]) as asked (message_id, after)
cross join lateral (
    select message_id, n, frame
    from app.reply_chunk
    where message_id = asked.message_id and n > asked.after and frame is not null
    order by n
    limit 1000
) as chunk
order by chunk.message_id, chunk.n

-- name: ended
-- The replies among these that have ended, and those without a row. A reply has no row when its
-- session was erased, or when the read model has not come to the reply yet. The log tells which.
select asked.message_id
from unnest(%(tenant_id)b::text[], %(reply_id)b::text[]) as asked (tenant_id, message_id)
left join app.replies using (tenant_id, message_id)
where replies.message_id is null or replies.ended_position is not null

-- name: purge
-- Delete the frames of old replies, the oldest first. Ids of replies are UUIDv7, so their order is
-- the order of age. A reply that has not ended keeps its frames, however old they are: a service
-- that was away for days ends such a reply with what its readers saw.
delete from app.reply_chunk
where (message_id, n) in (
    select message_id, n
    from app.reply_chunk
    where message_id < %(before)s
        and not exists (
            select from app.replies
            where replies.tenant_id = reply_chunk.tenant_id
                and replies.message_id = reply_chunk.message_id
                and replies.ended_position is null
        )
    order by message_id, n
    limit %(limit)s
)
