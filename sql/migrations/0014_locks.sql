-- Locks that only the service and the owner of the database can take. Everybody who may connect can
-- take an advisory lock, and so keep others waiting.

create table app.append_lock (
    only_for_its_lock boolean
);
comment on table app.append_lock is
    'Has no rows. A writer locks the table when it appends by app.append_locked.';
grant update on app.append_lock to throughline_service;

create table app.rebuild (
    projection text        not null collate "C",
    pid        integer     not null,
    started_at timestamptz not null,
    constraint rebuild_pkey primary key (projection)
);
comment on table app.rebuild is 'The rebuilds and verifications that run: one a read model.';
comment on column app.rebuild.pid is 'The backend that does the work.';
comment on column app.rebuild.started_at is
    'When that backend started. Work of a backend that has ended is over.';
