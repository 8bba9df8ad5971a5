-- The epoch of the log's history. It changes when the data is restored into another database or
-- server, and when a replica is promoted. After these moments positions can be used a second time.
-- A cursor contains the epoch, so the service refuses a cursor of another history.
create or replace function app.log_epoch() returns text
language sql stable parallel safe as $$
    select left(md5(concat_ws('/', system_identifier, timeline_id, pg_database.oid)), 8)
    from pg_control_system(), pg_control_checkpoint(), pg_database
    where datname = current_database()
$$;
