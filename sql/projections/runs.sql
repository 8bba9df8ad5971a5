-- The runs: what engines are asked for, how far each run has come, and its result.

-- name: table
create table runs (
    tenant_id    text        not null collate "C",
    run_id       text        not null collate "C",
    project_id   text        not null collate "C",
    user_id      text        not null collate "C",
    session_id   text        collate "C",
    title        text        not null,
    prompt_version_id text,
    answers      jsonb,
    settings     jsonb,
    input        jsonb,
    status       text        not null default 'queued',
    worker_id    text,
    progress     text,
    summary      text,
    findings     jsonb       not null default '[]',
    code         text,
    error        text,
    seconds      integer,
    tokens       bigint,
    queued_at    timestamptz not null,
    claimed_at   timestamptz,
    heard_at     timestamptz not null,
    ended_at     timestamptz,
    queued_position bigint   not null,
    primary key (tenant_id, run_id)
) with (fillfactor = 70);
-- The columns of these indexes never change. So an update of a run touches no index, unless it
-- changes the status.
create index runs_of_project on runs (project_id, queued_position, tenant_id);
create index runs_open on runs (queued_position) where status in ('queued', 'running');
grant select, insert, update, delete on runs to throughline_service;

-- name: apply
create or replace function apply_runs(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into runs (
        tenant_id, run_id, project_id, user_id, session_id, title, prompt_version_id, answers,
        settings, input, queued_at, heard_at, queued_position
    )
    select
        event.tenant_id, state.run_id, state.project_id, state.user_id, state.session_id,
        state.title, state.prompt_version_id, nullif(state.answers, 'null'),
        nullif(state.settings, 'null'), nullif(state.input, 'null'), event.recorded_at,
        event.recorded_at, event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        run_id text, project_id text, user_id text, session_id text, title text,
        prompt_version_id text, answers jsonb, settings jsonb, input jsonb
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'RunQueued';

    -- A run can have several reports in the range; the last report counts. The events of a claim
    -- and of an end happen once a run.
    update runs
    set
        status = case
            when change.ended_as = 'RunSucceeded' then 'succeeded'
            when change.ended_as = 'RunFailed' then 'failed'
            when runs.status = 'queued' then 'running'
            else runs.status
        end,
        worker_id = coalesce(change.worker_id, runs.worker_id),
        progress = coalesce(change.title, runs.progress),
        summary = coalesce(change.summary, runs.summary),
        findings = coalesce(change.findings, runs.findings),
        code = coalesce(change.code, runs.code),
        error = coalesce(change.error, runs.error),
        seconds = coalesce(change.seconds, runs.seconds),
        tokens = coalesce(change.tokens, runs.tokens),
        claimed_at = coalesce(runs.claimed_at, change.claimed_at),
        heard_at = greatest(runs.heard_at, change.heard_at),
        ended_at = coalesce(runs.ended_at, change.ended_at)
    from (
        select
            event.tenant_id,
            state.run_id,
            max(event.type) filter (
                where event.type in ('RunSucceeded', 'RunFailed')
            ) as ended_as,
            max(state.worker_id) filter (where event.type = 'RunClaimed') as worker_id,
            (array_agg(state.title order by event.position desc) filter (
                where state.title is not null
            ))[1] as title,
            max(state.summary) as summary,
            (array_agg(state.findings) filter (
                where event.type in ('RunSucceeded', 'RunFailed')
            ))[1] as findings,
            max(state.code) as code,
            max(state.error) as error,
            max(state.seconds) as seconds,
            max(state.tokens) as tokens,
            min(event.recorded_at) filter (where event.type = 'RunClaimed') as claimed_at,
            max(event.recorded_at) as heard_at,
            min(event.recorded_at) filter (
                where event.type in ('RunSucceeded', 'RunFailed')
            ) as ended_at
        from event
        cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
            run_id text, worker_id text, title text, summary text, findings jsonb, code text,
            error text, seconds integer, tokens bigint
        )
        where event.position > p_after and event.position <= p_upto
            and event.type in (
                'RunClaimed', 'RunProgressed', 'RunStepReported', 'RunCandidateReported',
                'RunSucceeded', 'RunFailed'
            )
        group by event.tenant_id, state.run_id
    ) as change
    where runs.tenant_id = change.tenant_id and runs.run_id = change.run_id;

    delete from runs
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        run_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'RunErased'
        and runs.tenant_id = event.tenant_id
        and runs.run_id = state.run_id;
end
$$;

-- name: view
create view analytics.project_runs with (security_invoker) as
select
    tenant_id, run_id, project_id, user_id, session_id, title, prompt_version_id, status, worker_id,
    summary, findings, code, error, seconds, tokens, queued_at, claimed_at, ended_at,
    (extract(epoch from ended_at - queued_at) * 1000)::bigint as duration_ms
from app.runs;
comment on view analytics.project_runs is 'The runs of engines, one row each.';
comment on column analytics.project_runs.tenant_id is 'The tenant of the run.';
comment on column analytics.project_runs.run_id is 'The run.';
comment on column analytics.project_runs.project_id is 'The project of the run.';
comment on column analytics.project_runs.user_id is 'The user who asked for the run.';
comment on column analytics.project_runs.session_id is
    'The session that the run came from; null for a run without a session.';
comment on column analytics.project_runs.title is 'What the user called the run.';
comment on column analytics.project_runs.prompt_version_id is
    'The prompt version that the run was asked to use; null without a prompt version.';
comment on column analytics.project_runs.status is 'queued, running, succeeded or failed.';
comment on column analytics.project_runs.worker_id is 'The engine that claimed the run.';
comment on column analytics.project_runs.summary is 'The summary that the engine reported with the end.';
comment on column analytics.project_runs.findings is
    'The key findings that the engine reported with the end, as a JSON array of texts.';
comment on column analytics.project_runs.code is
    'Why the run failed: failed (its engine said so), timed_out (no report for long) or cancelled '
    '(by a member of the project).';
comment on column analytics.project_runs.error is 'The error message of a failed run.';
comment on column analytics.project_runs.seconds is
    'The AI seconds that the run used, by the report of its end. They are not billed.';
comment on column analytics.project_runs.tokens is
    'The tokens that the run used, by the report of its end.';
comment on column analytics.project_runs.queued_at is 'The time when a user asked for the run.';
comment on column analytics.project_runs.claimed_at is 'The time when an engine claimed the run.';
comment on column analytics.project_runs.ended_at is 'The time when the run succeeded or failed.';
comment on column analytics.project_runs.duration_ms is
    'Milliseconds from queued_at to ended_at; null until the run has ended.';
grant select on analytics.project_runs, app.runs to throughline_analyst;

-- part: columns
run_id, project_id, user_id, session_id, title, prompt_version_id, answers, settings, input,
    status, worker_id, progress, summary, findings, code, error, seconds, tokens, queued_at,
    claimed_at, heard_at, ended_at, queued_position, app.cursor_at(queued_position) as cursor,
    (
        select count(*)
        from app.run_steps
        where run_steps.tenant_id = runs.tenant_id and run_steps.run_id = runs.run_id
    ) as step_count,
    (
        select count(*)
        from app.run_candidates
        where run_candidates.tenant_id = runs.tenant_id and run_candidates.run_id = runs.run_id
    ) as candidate_count

-- name: of_ids
select {columns}
from app.runs
where tenant_id = %(tenant_id)s and run_id = any (%(run_ids)s)

-- name: open
-- The queued or the running runs, oldest first. The first condition on `status` is the condition of
-- the index runs_open.
select {columns}
from app.runs
where tenant_id = %(tenant_id)s
    and status in ('queued', 'running')
    and status = %(status)s
    and (%(worker_id)s::text is null or worker_id = %(worker_id)s)
    and queued_position > %(after)s
order by queued_position
limit %(limit)s

-- name: of_project
-- The runs of a project, newest first; with a session those that came from it.
select {columns}
from app.runs
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and (%(session_id)s::text is null or session_id = %(session_id)s)
    and (%(status)s::text is null or status = %(status)s)
    and queued_position < %(before)s
order by queued_position desc
limit %(limit)s

-- name: counts
-- How many runs of a project have each status; with a session only those that came from it.
select status, count(*) as runs
from app.runs
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and (%(session_id)s::text is null or session_id = %(session_id)s)
group by status

-- name: silent
-- The open runs of all tenants without any report for some time. No engine could report while
-- PostgreSQL was away, so the time counts from its start.
select tenant_id, run_id
from app.runs
where status in ('queued', 'running')
    and greatest(heard_at, pg_postmaster_start_time())
        <= now() - make_interval(secs => %(silent_seconds)s)
order by queued_position
limit %(limit)s

-- name: is_silent
select heard_at <= now() - make_interval(secs => %(silent_seconds)s)
from app.runs
where tenant_id = %(tenant_id)s and run_id = %(run_id)s
