-- The log: one table of events in one order, and the two ways to append to it.
--
-- A position is handed out by the writer that commits it: the batch is inserted at the head + 1 ...
-- under the primary key. So positions have no gaps, and their order is the order of commits: who has
-- seen position N will never find another event at or below N.

create schema app;
comment on schema app is 'Throughline: the log, and the read models that are rebuilt from it.';

do $$
begin
    create role throughline_service nologin;
exception
    -- Roles belong to the whole server: another database's migration may be first, or just now.
    when duplicate_object or unique_violation then null;
end
$$;

grant throughline_service to current_user;
grant usage on schema app to throughline_service;


create table app.event (
    position       bigint      not null,
    version        integer     not null,
    schema_version smallint    not null,
    append_id      uuid        not null,
    recorded_at    timestamptz not null,
    tenant_id      text        not null collate "C",
    stream_id      text        not null collate "C",
    type           text        not null collate "C",
    project_id     text                 collate "C",
    state          bytea       not null,
    metadata       json        not null,
    constraint event_position_is_taken_once primary key (position),
    constraint event_version_is_taken_once unique (tenant_id, stream_id, version)
);

create index event_of_project on app.event (tenant_id, project_id, position);

comment on table app.event is
    'Everything that happened, in commit order. Rows are never changed and never removed.';
comment on column app.event.position is
    'The global sequence: 1, 2, 3 ... without gaps; the order of commits.';
comment on column app.event.version is
    'The place in the stream: 1, 2, 3 ...; streams written through eventsourcing may begin at 0.';
comment on column app.event.schema_version is 'The version of the type''s fields.';
comment on column app.event.append_id is
    'The append that wrote the row: events of one append stand or fall together. A writer that '
    'lost its connection at commit finds its append again by it.';
comment on column app.event.recorded_at is 'When the append began, by the database''s clock.';
comment on column app.event.tenant_id is 'Who the event belongs to.';
comment on column app.event.stream_id is
    'What the event is about: project-<id>, session-<id>, account-<tenant>-<user>.';
comment on column app.event.type is 'The event''s name, in the past tense: UserMessagePosted.';
comment on column app.event.project_id is 'The project, where the event belongs to one.';
comment on column app.event.state is 'The event''s fields: a JSON object in UTF-8.';
comment on column app.event.metadata is
    'How it came about: requestId, actor, causationId, idempotencyKey, where known.';


create function app.refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception 'events are never changed and never removed'
        using errcode = 'TL001', hint = 'Append an event that corrects the earlier one.';
end
$$;

create trigger event_is_append_only
before update or delete or truncate on app.event
for each statement execute function app.refuse_change();

grant select, insert on app.event to throughline_service;


-- The log's epoch: another one after a restore into another database or server, and after every
-- promotion, which are the moments at which positions may be handed out a second time. A cursor
-- carries it, so that a cursor of another history is refused, not resumed wrongly.
create function app.log_epoch() returns text
language sql stable parallel safe as $$
    select left(md5(concat_ws('/', system_identifier, timeline_id, pg_database.oid)), 8)
    from pg_control_system(), pg_control_checkpoint(), pg_database
    where datname = current_database()
$$;


-- What happens in every append's own transaction, after its events: read models, then one wake-up.
create function app.appended(p_first bigint, p_last bigint, p_types text[]) returns void
language plpgsql as $$
begin
    perform app.project_inline(p_first, p_last, p_types);
    perform pg_notify('throughline', p_last::text);
end
$$;


-- The sure way to append, taken when the quick one (a plain insert at the head that the writer
-- remembers) met another writer: takes a lock, reads the head, answers each item by itself and
-- appends the rest. An item is one append: the events with the same `item` number.
--
-- Answers a row an item: `first_position` where its events are, appended now or by an earlier try
-- with the same append id; or null, and the stream that was in the way with the version it has.
-- Writers on the quick way do not take the lock, so the insert can still meet one: the unique
-- violation then ends the statement, and the caller calls again.
create function app.append_locked(
    p_item           integer[],
    p_append_id      uuid[],
    p_tenant_id      text[],
    p_stream_id      text[],
    p_version        integer[],
    p_type           text[],
    p_schema_version smallint[],
    p_project_id     text[],
    p_state          bytea[],
    p_metadata       text[]
) returns table (
    item           integer,
    first_position bigint,
    recorded_at    timestamptz,
    stream_id      text,
    version        integer,
    head           bigint
)
language plpgsql
-- Its plans are made when the log is young and kept while it grows.
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
    v_head bigint;
    v_last bigint;
begin
    perform pg_advisory_xact_lock(hashtextextended('throughline.append', 0));
    v_head := coalesce((select max(position) from app.event), 0);

    return query
    with wanted as (
        -- Each stream of each item, with the version that its first event asks for.
        select distinct on (item, tenant_id, stream_id)
            item, append_id, tenant_id, stream_id, version, n
        from unnest(p_item, p_append_id, p_tenant_id, p_stream_id, p_version)
            with ordinality as each (item, append_id, tenant_id, stream_id, version, n)
        order by item, tenant_id, stream_id, n
    ),
    answered as (
        -- The items that are not to be appended: one row each, an own earlier try before a rival.
        select distinct on (wanted.item)
            wanted.item, known.position, known.recorded_at, wanted.stream_id, latest.version
        from wanted
        left join lateral (
            select event.version
            from app.event
            where event.tenant_id = wanted.tenant_id and event.stream_id = wanted.stream_id
            order by event.version desc
            limit 1
        ) as latest on true
        left join lateral (
            select event.position, event.recorded_at
            from app.event
            where event.tenant_id = wanted.tenant_id
                and event.stream_id = wanted.stream_id
                and event.version = wanted.version
                and event.append_id = wanted.append_id
        ) as known on true
        where wanted.version <> latest.version + 1
            or (latest.version is null and wanted.version not in (0, 1))
        order by wanted.item, wanted.n
    ),
    accepted as (
        select *, v_head + row_number() over (order by n) as position
        from unnest(
            p_item, p_append_id, p_tenant_id, p_stream_id, p_version,
            p_type, p_schema_version, p_project_id, p_state, p_metadata
        ) with ordinality as each (
            item, append_id, tenant_id, stream_id, version,
            type, schema_version, project_id, state, metadata, n
        )
        where item not in (select answered.item from answered)
    ),
    inserted as (
        insert into app.event (
            position, version, schema_version, append_id, recorded_at,
            tenant_id, stream_id, type, project_id, state, metadata
        )
        select
            position, version, schema_version, append_id, statement_timestamp(),
            tenant_id, stream_id, type, project_id, state, metadata::json
        from accepted
    )
    select
        answered.item, answered.position, answered.recorded_at,
        answered.stream_id, answered.version, v_head
    from answered
    union all
    select accepted.item, min(accepted.position), statement_timestamp(), null, null, v_head
    from accepted
    group by accepted.item;

    v_last := coalesce((select max(position) from app.event), 0);
    if v_last > v_head then
        perform app.appended(v_head + 1, v_last, p_type);
    end if;
end
$$;
