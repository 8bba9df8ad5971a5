-- A snapshot of a project leaves its texts to the event that has them, because an erasure masks events
-- alone. A newer snapshot takes the place of the older ones.

alter table app.snapshot add column text_version integer;

comment on table app.snapshot is
    'States at a version: of accounts and projects, and of eventsourcing aggregates. They can be made again from the log.';
comment on column app.snapshot.text_version is
    'The version of the event with the texts of the state, which the snapshot does not have.';

grant delete on app.snapshot to throughline_service;
