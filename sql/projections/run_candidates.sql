-- The candidates of runs with their scores, one row each. A later report of the same candidate adds
-- its scores, and replaces the other values that it has. `position` is that of the first report.

-- name: table
create table run_candidates (
    tenant_id    text        not null collate "C",
    run_id       text        not null collate "C",
    candidate_id text        not null collate "C",
    title        text        not null,
    scores       jsonb       not null default '{}',
    data         jsonb,
    at           timestamptz not null,
    recorded_at  timestamptz not null,
    position     bigint      not null,
    primary key (tenant_id, run_id, candidate_id)
);
grant select, insert, update, delete on run_candidates to throughline_service;

-- name: apply
create or replace function apply_run_candidates(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    with reported as materialized (
        select
            event.tenant_id, state.run_id, state.candidate_id, state.title,
            nullif(state.scores, 'null') as scores, nullif(state.data, 'null') as data,
            state.at::timestamptz as at, event.recorded_at, event.position
        from event
        cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
            run_id text, candidate_id text, title text, scores jsonb, data jsonb, at text
        )
        where event.position > p_after and event.position <= p_upto
            and event.type = 'RunCandidateReported'
    ),
    -- Of scores with the same name the last one counts.
    scored as (
        select
            reported.tenant_id, reported.run_id, reported.candidate_id,
            jsonb_object_agg(score.key, score.value order by reported.position) as scores
        from reported
        cross join lateral jsonb_each(reported.scores) as score
        group by reported.tenant_id, reported.run_id, reported.candidate_id
    ),
    last as (
        select
            tenant_id, run_id, candidate_id,
            (array_agg(title order by position desc))[1] as title,
            (array_agg(data order by position desc) filter (where data is not null))[1] as data,
            (array_agg(at order by position desc))[1] as at,
            max(recorded_at) as recorded_at,
            min(position) as position
        from reported
        group by tenant_id, run_id, candidate_id
    )
    insert into run_candidates (
        tenant_id, run_id, candidate_id, title, scores, data, at, recorded_at, position
    )
    select
        last.tenant_id, last.run_id, last.candidate_id, last.title, coalesce(scored.scores, '{}'),
        last.data, last.at, last.recorded_at, last.position
    from last
    left join scored
        on scored.tenant_id = last.tenant_id and scored.run_id = last.run_id
            and scored.candidate_id = last.candidate_id
    on conflict (tenant_id, run_id, candidate_id) do update
    set
        title = excluded.title,
        scores = run_candidates.scores || excluded.scores,
        data = coalesce(excluded.data, run_candidates.data),
        at = excluded.at,
        recorded_at = excluded.recorded_at;

    delete from run_candidates
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        run_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'RunErased'
        and run_candidates.tenant_id = event.tenant_id
        and run_candidates.run_id = state.run_id;
end
$$;

-- name: view
create view analytics.project_run_candidates with (security_invoker) as
select tenant_id, run_id, candidate_id, title, scores, data, at, recorded_at, position
from app.run_candidates;
comment on view analytics.project_run_candidates is
    'The candidates of runs with their scores, one row each.';
comment on column analytics.project_run_candidates.tenant_id is 'The tenant of the run.';
comment on column analytics.project_run_candidates.run_id is 'The run.';
comment on column analytics.project_run_candidates.candidate_id is
    'The id that the engine gave the candidate.';
comment on column analytics.project_run_candidates.title is
    'The title of the last report of the candidate.';
comment on column analytics.project_run_candidates.scores is
    'The scores, as a JSON object of numbers by name.';
comment on column analytics.project_run_candidates.data is
    'What the engine says of the candidate, as a JSON object.';
comment on column analytics.project_run_candidates.at is
    'The time of the last report, by the engine''s clock.';
comment on column analytics.project_run_candidates.recorded_at is
    'The time when the last report was appended.';
comment on column analytics.project_run_candidates.position is
    'The position of the first report of the candidate in the log.';
grant select on analytics.project_run_candidates, app.run_candidates to throughline_analyst;

-- name: page
-- The candidates of a run, in the order of their first reports.
select candidate_id, title, scores, data, at, position, app.cursor_at(position) as cursor
from app.run_candidates
where tenant_id = %(tenant_id)s
    and run_id = %(run_id)s
    and position > %(after)s
order by position
limit %(limit)s

-- name: best
-- The candidates of a run, the highest average of the scores first; a named one before all others.
select candidate_id, title, scores, data, at, position, app.cursor_at(position) as cursor
from app.run_candidates
cross join lateral (
    select avg(value::numeric) as average from jsonb_each_text(scores) as score
) as rank
where tenant_id = %(tenant_id)s and run_id = %(run_id)s
order by candidate_id is not distinct from %(candidate_id)s desc, average desc nulls last, position
limit %(limit)s

-- name: best_scores
-- For each name of a score the candidate with the highest one, in these runs.
select distinct on (score.key)
    score.key as name, score.value::double precision as score, run_id, candidate_id, title
from app.run_candidates
cross join lateral jsonb_each_text(scores) as score
where tenant_id = %(tenant_id)s and run_id = any (%(run_ids)s)
order by score.key, score.value::double precision desc, position
