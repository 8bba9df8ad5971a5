-- The nonces of signed writes. A server accepts each signature once.

-- name: use
-- Returns one row if the nonce is new, and no row if it was used before. Also deletes a few nonces
-- whose signatures are no longer valid.
-- The transaction waits for no disk and for no standby. The events and the audit entry of the request
-- are committed later and do wait, and the WAL of the database keeps the order of commits. So what
-- the request stores is never there without its nonce, neither after a crash nor after a failover.
-- And a request does not wait here for ever where there is no standby.
with aged as (
    delete from app.nonce
    where ctid in (select ctid from app.nonce where used_at < now() - interval '11 minutes' limit 20)
)
insert into app.nonce (key_id, nonce)
values (%(key_id)s, %(nonce)s)
on conflict do nothing
returning set_config('synchronous_commit', 'off', true)
