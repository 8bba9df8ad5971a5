-- A replica of the database, and what an address of the database leads to.

-- name: state
-- Whether this server is a replica, and the head of the log there.
select pg_is_in_recovery(), app.log_head()

-- name: identity
-- Which database this is, whatever its address, and whether the server is a replica.
select concat_ws('/', system_identifier, pg_database.oid), pg_is_in_recovery()
from pg_control_system(), pg_database
where datname = current_database()

-- name: backend
select pg_backend_pid()

-- name: listen
listen throughline_session

-- name: notify
notify throughline_session

-- name: unlisten
unlisten throughline_session
