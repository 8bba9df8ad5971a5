-- The steps of runs, one row each. A later report of the same step replaces the values that it has.
-- `position` is that of the first report, so a step keeps its place in a list.

-- name: table
create table run_steps (
    tenant_id    text        not null collate "C",
    run_id       text        not null collate "C",
    step_id      text        not null collate "C",
    title        text        not null,
    prompt       text,
    prompt_version_id text,
    output       text,
    at           timestamptz not null,
    recorded_at  timestamptz not null,
    position     bigint      not null,
    primary key (tenant_id, run_id, step_id)
);
grant select, insert, update, delete on run_steps to throughline_service;

-- name: apply
create or replace function apply_run_steps(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into run_steps (
        tenant_id, run_id, step_id, title, prompt, prompt_version_id, output, at, recorded_at,
        position
    )
    select
        event.tenant_id,
        state.run_id,
        state.step_id,
        (array_agg(state.title order by event.position desc))[1],
        (array_agg(state.prompt order by event.position desc) filter (
            where state.prompt is not null
        ))[1],
        (array_agg(state.prompt_version_id order by event.position desc) filter (
            where state.prompt_version_id is not null
        ))[1],
        (array_agg(state.output order by event.position desc) filter (
            where state.output is not null
        ))[1],
        (array_agg(state.at::timestamptz order by event.position desc))[1],
        max(event.recorded_at),
        min(event.position)
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        run_id text, step_id text, title text, prompt text, prompt_version_id text, output text,
        at text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'RunStepReported'
    group by event.tenant_id, state.run_id, state.step_id
    on conflict (tenant_id, run_id, step_id) do update
    set
        title = excluded.title,
        prompt = coalesce(excluded.prompt, run_steps.prompt),
        prompt_version_id = coalesce(excluded.prompt_version_id, run_steps.prompt_version_id),
        output = coalesce(excluded.output, run_steps.output),
        at = excluded.at,
        recorded_at = excluded.recorded_at;

    delete from run_steps
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        run_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'RunErased'
        and run_steps.tenant_id = event.tenant_id
        and run_steps.run_id = state.run_id;
end
$$;

-- name: view
create view analytics.project_run_steps with (security_invoker) as
select
    tenant_id, run_id, step_id, title, prompt, prompt_version_id, output, at, recorded_at, position
from app.run_steps;
comment on view analytics.project_run_steps is 'The steps of runs, one row each.';
comment on column analytics.project_run_steps.tenant_id is 'The tenant of the run.';
comment on column analytics.project_run_steps.run_id is 'The run.';
comment on column analytics.project_run_steps.step_id is 'The id that the engine gave the step.';
comment on column analytics.project_run_steps.title is 'The title of the last report of the step.';
comment on column analytics.project_run_steps.prompt is 'The prompt of the step.';
comment on column analytics.project_run_steps.prompt_version_id is
    'The prompt version of the prompt, where the engine named a prompt version.';
comment on column analytics.project_run_steps.output is 'The output of the step.';
comment on column analytics.project_run_steps.at is
    'The time of the last report, by the engine''s clock.';
comment on column analytics.project_run_steps.recorded_at is
    'The time when the last report was appended.';
comment on column analytics.project_run_steps.position is
    'The position of the first report of the step in the log.';
grant select on analytics.project_run_steps, app.run_steps to throughline_analyst;

-- name: page
-- The steps of a run, in the order of their first reports.
select step_id, title, prompt, prompt_version_id, output, at, position,
    app.cursor_at(position) as cursor
from app.run_steps
where tenant_id = %(tenant_id)s
    and run_id = %(run_id)s
    and position > %(after)s
order by position
limit %(limit)s

-- name: of_id
select step_id, title, prompt, prompt_version_id, output, at, position,
    app.cursor_at(position) as cursor
from app.run_steps
where tenant_id = %(tenant_id)s and run_id = %(run_id)s and step_id = %(step_id)s
