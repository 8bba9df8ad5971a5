-- Leases: a process is alive as long as it renews its lease. The column `epoch` is the lease's id.

-- name: acquire
insert into app.lease (until)
values (now() + make_interval(secs => %(seconds)s))
returning epoch, until

-- name: renew
update app.lease
set until = now() + make_interval(secs => %(seconds)s)
where epoch = %(lease_id)s
returning until

-- name: release
delete from app.lease where epoch = %(lease_id)s

-- name: purge
-- Delete the leases that were not renewed for a day.
delete from app.lease where until < now() - interval '1 day'
