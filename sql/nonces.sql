-- The nonces of signed writes. A server accepts each signature once.

-- name: use
-- Returns one row if the nonce is new, and no row if it was used before. Also deletes a few nonces
-- whose signatures are no longer valid.
with aged as (
    delete from app.nonce
    where ctid in (select ctid from app.nonce where used_at < now() - interval '11 minutes' limit 20)
)
insert into app.nonce (key_id, nonce)
values (%(key_id)s, %(nonce)s)
on conflict do nothing
returning true
