-- The reports of build workers, one row a report, in log order.

-- name: table
create table build_events (
    position     bigint      not null,
    tenant_id    text        not null collate "C",
    build_id     text        not null collate "C",
    event_id     text        not null collate "C",
    phase        text        not null,
    type         text        not null,
    title        text        not null,
    user_visible boolean     not null,
    version_id   text,
    preview_url  text,
    artifact_url text,
    error        text,
    seconds      integer,
    tokens       bigint,
    at           timestamptz not null,
    recorded_at  timestamptz not null,
    primary key (tenant_id, build_id, position)
);
grant select, insert, delete on build_events to throughline_service;

-- name: apply
create or replace function apply_build_events(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into build_events (
        position, tenant_id, build_id, event_id, phase, type, title, user_visible, version_id,
        preview_url, artifact_url, error, seconds, tokens, at, recorded_at
    )
    select
        event.position, event.tenant_id, state.build_id, state.event_id, state.phase, state.type,
        state.title, state.user_visible, state.version_id, state.preview_url, state.artifact_url,
        state.error, state.seconds, state.tokens, state.at::timestamptz, event.recorded_at
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        build_id text, event_id text, phase text, type text, title text, user_visible boolean,
        version_id text, preview_url text, artifact_url text, error text, seconds integer,
        tokens bigint, at text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'BuildProgressed'
    order by event.position;

    delete from build_events
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        build_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'BuildErased'
        and build_events.tenant_id = event.tenant_id
        and build_events.build_id = state.build_id;
end
$$;

-- name: view
create view analytics.project_build_events with (security_invoker) as
select
    position, tenant_id, build_id, event_id, phase, type, title, user_visible, version_id,
    preview_url, artifact_url, error, seconds, tokens, at, recorded_at
from app.build_events;
comment on view analytics.project_build_events is
    'The reports of build workers, one row a report.';
comment on column analytics.project_build_events.position is
    'The position of the event in the log.';
comment on column analytics.project_build_events.tenant_id is 'The tenant of the build.';
comment on column analytics.project_build_events.build_id is 'The build.';
comment on column analytics.project_build_events.event_id is
    'The id that the worker gave the report.';
comment on column analytics.project_build_events.phase is
    'queue, setup, development, dependencies, build, deploy or metadata.';
comment on column analytics.project_build_events.type is
    'started, progress, completed or failed.';
comment on column analytics.project_build_events.title is 'The text of the report.';
comment on column analytics.project_build_events.user_visible is
    'Whether users may see the report.';
comment on column analytics.project_build_events.version_id is 'The deployed version.';
comment on column analytics.project_build_events.preview_url is
    'The URL where people can look at the version.';
comment on column analytics.project_build_events.artifact_url is 'The URL of the version''s files.';
comment on column analytics.project_build_events.error is 'The error, in a report of type failed.';
comment on column analytics.project_build_events.seconds is
    'The AI seconds that the build used, by the report of its end. At most the reserved seconds are '
    'billed: see user_ai_time_consumption.';
comment on column analytics.project_build_events.tokens is
    'The tokens that the build used, by the report of its end.';
comment on column analytics.project_build_events.at is
    'The time of the report, by the worker''s clock.';
comment on column analytics.project_build_events.recorded_at is
    'The time when the event was appended.';
grant select on analytics.project_build_events, app.build_events to throughline_analyst;

-- name: page
select
    position, event_id, phase, type, title, user_visible, version_id, preview_url, artifact_url,
    error, seconds, tokens, at, app.cursor_at(position) as cursor
from app.build_events
where tenant_id = %(tenant_id)s
    and build_id = %(build_id)s
    and position > %(after)s
    and (%(with_hidden)s or user_visible)
order by position
limit %(limit)s
