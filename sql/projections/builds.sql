-- The builds: the prompt or plan of each build, its progress, and its result.

-- name: table
create table builds (
    tenant_id    text        not null collate "C",
    build_id     text        not null collate "C",
    project_id   text        not null collate "C",
    session_id   text        not null collate "C",
    message_id   text        not null collate "C",
    user_id      text        not null collate "C",
    prompt       text        not null,
    locale       text        not null,
    plan         jsonb,
    converted_from_session_id text,
    operation    text,
    status       text        not null default 'queued',
    worker_id    text,
    phase        text,
    title        text,
    version_id   text,
    preview_url  text,
    artifact_url text,
    code         text,
    error        text,
    queued_at    timestamptz not null,
    claimed_at   timestamptz,
    heard_at     timestamptz not null,
    ended_at     timestamptz,
    queued_position bigint   not null,
    primary key (tenant_id, build_id)
) with (fillfactor = 70);
-- The columns of these indexes never change. So an update of a build touches no index, unless it
-- changes the status.
create index builds_of_project on builds (project_id, queued_position, tenant_id);
create index builds_open on builds (queued_position) where status in ('queued', 'running');
grant select, insert, update, delete on builds to throughline_service;

-- name: apply
create or replace function apply_builds(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into builds (
        tenant_id, build_id, project_id, session_id, message_id, user_id, prompt, locale, plan,
        converted_from_session_id, operation, queued_at, heard_at, queued_position
    )
    select
        event.tenant_id, state.build_id, state.project_id, state.session_id, state.message_id,
        state.user_id, state.prompt, state.locale, nullif(state.plan, 'null'),
        state.converted_from_session_id, state.operation, event.recorded_at, event.recorded_at,
        event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        build_id text, project_id text, session_id text, message_id text, user_id text,
        prompt text, locale text, plan jsonb, converted_from_session_id text, operation text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'BuildQueued';

    -- A build can have several reports in the range; the last report counts. All other events
    -- happen once a build.
    update builds
    set
        status = case
            when change.version_id is not null then 'succeeded'
            when change.code is not null then 'failed'
            when builds.status = 'queued' then 'running'
            else builds.status
        end,
        worker_id = coalesce(change.worker_id, builds.worker_id),
        phase = coalesce(change.phase, builds.phase),
        title = coalesce(change.title, builds.title),
        version_id = coalesce(change.version_id, builds.version_id),
        preview_url = coalesce(change.preview_url, builds.preview_url),
        artifact_url = coalesce(change.artifact_url, builds.artifact_url),
        code = coalesce(change.code, builds.code),
        error = coalesce(change.error, builds.error),
        claimed_at = coalesce(builds.claimed_at, change.claimed_at),
        heard_at = greatest(builds.heard_at, change.heard_at),
        ended_at = coalesce(builds.ended_at, change.ended_at)
    from (
        select
            event.tenant_id,
            state.build_id,
            (array_agg(state.worker_id order by event.position desc) filter (
                where event.type = 'BuildClaimed'
            ))[1] as worker_id,
            (array_agg(state.phase order by event.position desc) filter (
                where event.type = 'BuildProgressed'
            ))[1] as phase,
            (array_agg(state.title order by event.position desc) filter (
                where event.type = 'BuildProgressed'
            ))[1] as title,
            max(state.version_id) filter (where event.type = 'VersionDeployed') as version_id,
            max(state.preview_url) filter (where event.type = 'VersionDeployed') as preview_url,
            max(state.artifact_url) filter (where event.type = 'VersionDeployed') as artifact_url,
            max(state.code) filter (where event.type = 'BuildFailed') as code,
            max(state.error) filter (where event.type = 'BuildFailed') as error,
            min(event.recorded_at) filter (where event.type = 'BuildClaimed') as claimed_at,
            max(event.recorded_at) as heard_at,
            min(event.recorded_at) filter (
                where event.type in ('BuildFailed', 'VersionDeployed')
            ) as ended_at
        from event
        cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
            build_id text, worker_id text, phase text, title text, version_id text,
            preview_url text, artifact_url text, code text, error text
        )
        where event.position > p_after and event.position <= p_upto
            and event.type in (
                'BuildClaimed', 'BuildProgressed', 'BuildFailed', 'VersionDeployed'
            )
        group by event.tenant_id, state.build_id
    ) as change
    where builds.tenant_id = change.tenant_id and builds.build_id = change.build_id;

    delete from builds
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        build_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'BuildErased'
        and builds.tenant_id = event.tenant_id
        and builds.build_id = state.build_id;
end
$$;

-- name: view
create view analytics.project_builds with (security_invoker) as
select
    tenant_id, build_id, project_id, session_id, message_id, user_id, converted_from_session_id,
    operation, status, worker_id, phase, version_id, preview_url, artifact_url, code, error, queued_at,
    claimed_at, ended_at,
    (extract(epoch from ended_at - queued_at) * 1000)::bigint as duration_ms
from app.builds;
comment on view analytics.project_builds is 'The builds, one row each.';
comment on column analytics.project_builds.tenant_id is 'The tenant of the build.';
comment on column analytics.project_builds.build_id is 'The build.';
comment on column analytics.project_builds.project_id is 'The project that is built.';
comment on column analytics.project_builds.session_id is 'The session of the message.';
comment on column analytics.project_builds.message_id is 'The message that asked for the build.';
comment on column analytics.project_builds.user_id is 'The user who asked for the build.';
comment on column analytics.project_builds.converted_from_session_id is
    'The session with the plan of the build; null for a build from an idea.';
comment on column analytics.project_builds.operation is
    'main_build, update or metadata_generation, as in user_ai_time_consumption; null for a build '
    'from before builds were billed.';
comment on column analytics.project_builds.status is 'queued, running, succeeded or failed.';
comment on column analytics.project_builds.worker_id is 'The worker that claimed the build.';
comment on column analytics.project_builds.phase is 'The phase of the last report.';
comment on column analytics.project_builds.version_id is 'The deployed version.';
comment on column analytics.project_builds.preview_url is
    'The URL where people can look at the version.';
comment on column analytics.project_builds.artifact_url is 'The URL of the version''s files.';
comment on column analytics.project_builds.code is
    'Why the build failed: failed (its worker said so), timed_out (no report for long) or '
    'cancelled (by a member of the project).';
comment on column analytics.project_builds.error is 'The error message of a failed build.';
comment on column analytics.project_builds.queued_at is 'The time when a user asked for the build.';
comment on column analytics.project_builds.claimed_at is
    'The time when a worker claimed the build.';
comment on column analytics.project_builds.ended_at is
    'The time when the build succeeded or failed.';
comment on column analytics.project_builds.duration_ms is
    'Milliseconds from queued_at to ended_at; null until the build has ended.';
grant select on analytics.project_builds, app.builds to throughline_analyst;

-- part: columns
build_id, project_id, session_id, message_id, user_id, prompt, locale, plan,
    converted_from_session_id, operation, status, worker_id, phase, title, version_id,
    preview_url, artifact_url, code, error, queued_at, claimed_at, heard_at, ended_at, queued_position,
    app.cursor_at(queued_position) as cursor

-- name: of_ids
select {columns}
from app.builds
where tenant_id = %(tenant_id)s and build_id = any (%(build_ids)s)

-- name: open
-- The queued or the running builds, oldest first. The first condition on `status` is the condition
-- of the index builds_open.
select {columns}
from app.builds
where tenant_id = %(tenant_id)s
    and status in ('queued', 'running')
    and status = %(status)s
    and (%(worker_id)s::text is null or worker_id = %(worker_id)s)
    and queued_position > %(after)s
order by queued_position
limit %(limit)s

-- name: of_project
-- The builds of a project, newest first.
select {columns}
from app.builds
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and (%(status)s::text is null or status = %(status)s)
    and queued_position < %(before)s
order by queued_position desc
limit %(limit)s

-- name: silent
-- The open builds of all tenants without any report for some time. No worker could report while
-- PostgreSQL was away, so the time counts from its start.
select tenant_id, project_id, build_id
from app.builds
where status in ('queued', 'running')
    and greatest(heard_at, pg_postmaster_start_time())
        <= now() - make_interval(secs => %(silent_seconds)s)
order by queued_position
limit %(limit)s

-- name: is_silent
select heard_at <= now() - make_interval(secs => %(silent_seconds)s)
from app.builds
where tenant_id = %(tenant_id)s and build_id = %(build_id)s
