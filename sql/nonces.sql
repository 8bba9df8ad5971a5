-- The nonces of signed writes. A server accepts each signature once.

-- name: use
-- Returns one row if the nonce is new, and no row if it was used before. Also deletes a few nonces
-- whose signatures are no longer valid.
--
-- The commit waits for no standby. What a request stores after its nonce does, and the standby then
-- has the nonce as well. So a failover loses a nonce only together with its request. And without a
-- standby no request waits here for ever.
with aged as (
    delete from app.nonce
    where ctid in (select ctid from app.nonce where used_at < now() - interval '11 minutes' limit 20)
)
insert into app.nonce (key_id, nonce)
select %(key_id)s, %(nonce)s
where set_config('synchronous_commit', 'local', true) = 'local'
on conflict do nothing
returning true
