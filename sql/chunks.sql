-- What was shown of replies, and the leases of those who write them. Parameters are psycopg's.

-- name: store
-- Frames of any number of replies. The key refuses all of them if one place is taken.
insert into app.reply_chunk (message_id, n, tenant_id, epoch, frame)
select message_id, n, tenant_id, %(lease_id)s, frame
from unnest(%(reply_id)b::text[], %(n)b::int4[], %(tenant_id)b::text[], %(frame)b::bytea[])
    as each (message_id, n, tenant_id, frame)

-- name: taken
-- Which of these places are taken, and by whom.
select message_id, n, epoch
from app.reply_chunk
where (message_id, n) in (
    select message_id, n
    from unnest(%(reply_id)b::text[], %(n)b::int4[]) as each (message_id, n)
)

-- name: take
-- One place, if it is free.
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
-- All there is of a reply, the place of its final event included.
select n, stored_at, frame
from app.reply_chunk
where tenant_id = %(tenant_id)s and message_id = %(reply_id)s
order by n

-- name: news
-- The next frames of replies that others write, for all who watch them here.
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
-- Which of these replies have ended.
select replies.message_id
from unnest(%(tenant_id)b::text[], %(reply_id)b::text[]) as asked (tenant_id, message_id)
join app.replies using (tenant_id, message_id)
where replies.ended_position is not null

-- name: purge
-- Replies by age, oldest first. The order of message ids is the order of their making.
delete from app.reply_chunk
where (message_id, n) in (
    select message_id, n
    from app.reply_chunk
    where message_id < %(before)s
    order by message_id, n
    limit %(limit)s
)

-- name: lease
insert into app.lease (until)
values (now() + make_interval(secs => %(seconds)s))
returning epoch

-- name: renew
update app.lease
set until = now() + make_interval(secs => %(seconds)s)
where epoch = %(lease_id)s

-- name: release
delete from app.lease where epoch = %(lease_id)s

-- name: bury
-- Leases that nobody has renewed for a day.
delete from app.lease where until < now() - interval '1 day'
