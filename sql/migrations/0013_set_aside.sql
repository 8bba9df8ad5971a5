-- The streams that a read model has set aside, because its rules failed on one of their events.

create table app.set_aside (
    projection text        not null collate "C",
    tenant_id  text        not null collate "C",
    stream_id  text        not null collate "C",
    project_id text                 collate "C",
    position   bigint      not null,
    reason     text        not null,
    at         timestamptz not null default clock_timestamp(),
    constraint set_aside_pkey primary key (tenant_id, stream_id, projection)
);
create index set_aside_of_projection on app.set_aside (projection);

comment on table app.set_aside is
    'The streams that a read model leaves out, from the event on which its rules failed.';
comment on column app.set_aside.projection is
    'The read model; during a rebuild or a verification the name of its temporary schema.';
comment on column app.set_aside.project_id is 'The project of the event; null if it has none.';
comment on column app.set_aside.position is
    'The event on which the rules failed. The rows of the read model have the events before it.';
comment on column app.set_aside.reason is
    'The message of PostgreSQL. It can quote what is in the event.';
comment on column app.set_aside.at is 'The time when the stream was set aside.';

select app.keep_tenants_apart('app.set_aside');
grant select, insert on app.set_aside to throughline_service;

alter table app.projection add column set_aside integer not null default 0;
comment on column app.projection.set_aside is
    'The number of streams in app.set_aside for this read model.';
