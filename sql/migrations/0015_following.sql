-- A read model that follows the log has no checkpoint that each append must write.

alter table app.projection
    add column follows boolean not null default false,
    add column is_paused boolean not null default false;
comment on column app.projection.follows is
    'Each append applies its events to the read model, so the head of the log is its checkpoint.';
comment on column app.projection.is_paused is
    'Appends leave the read model alone, because its tables are about to be swapped.';
comment on column app.projection.position is
    'All events up to this position are in its rows. Not written while the read model follows.';

create table app.follow_lock (
    only_for_its_lock boolean
);
comment on table app.follow_lock is
    'Has no rows. Appends share a lock of the table while they update the read models that follow. '
    'Who stops a read model locks it alone.';
grant update on app.follow_lock to throughline_service;
