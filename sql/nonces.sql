-- Signatures of writes that were used.

-- name: use
-- One row when the nonce is new, none when it was used. Some that are too old to matter go.
with aged as (
    delete from app.nonce
    where ctid in (select ctid from app.nonce where used_at < now() - interval '11 minutes' limit 20)
)
insert into app.nonce (key_id, nonce)
values (%(key_id)s, %(nonce)s)
on conflict do nothing
returning true
