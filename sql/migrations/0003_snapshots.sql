-- Snapshots of eventsourcing aggregates. They are no events: what they hold can be folded again.

create table app.snapshot (
    tenant_id text    not null collate "C",
    stream_id text    not null collate "C",
    version   integer not null,
    type      text    not null,
    state     bytea   not null,
    constraint snapshot_pkey primary key (tenant_id, stream_id, version)
);

comment on table app.snapshot is 'States of eventsourcing aggregates at a version.';

grant select, insert on app.snapshot to throughline_service;
