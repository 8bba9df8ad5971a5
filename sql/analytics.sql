-- Figures of one project over a span of time: sums over the read models.
--
-- A user sees the figures without what others did in private sessions. The tenant's own service names
-- no user and sees all figures.

-- name: replies
-- One row a mode. The row with a null mode counts all replies. A failed reply has the mode that the
-- model had decided on, else the one that the client asked for, else `unknown`.
select
    mode,
    count(*) as replies,
    count(*) filter (where subtype = 'success') as succeeded,
    count(*) filter (where subtype = 'partial') as cut_off,
    count(*) filter (where subtype = 'error') as failed,
    percentile_cont(0.5) within group (order by duration_ms) as p50_ms,
    percentile_cont(0.95) within group (order by duration_ms) as p95_ms,
    count(*) filter (where resets > 0) as resets,
    coalesce(sum(retries), 0) as retries,
    count(*) filter (where warnings @> '["wrong_language"]') as wrong_language
from (
    select
        coalesce(chat_mode, 'unknown') as mode, subtype, duration_ms, resets, retries, warnings
    from app.timeline
    where tenant_id = %(tenant_id)s
        and project_id = %(project_id)s
        and kind = 'reply'
        and (%(user_id)s::text is null or private_to in ('', %(user_id)s))
        and recorded_at >= %(since)s
        and recorded_at < %(until)s
) as reply
group by grouping sets ((mode), ())

-- name: languages
-- The replies by the language that was asked for. Replies that failed before the language was noted
-- are left out.
select
    lower(split_part(replace(locale, '_', '-'), '-', 1)) as language,
    count(*) as replies,
    count(*) filter (where subtype = 'success') as succeeded,
    count(*) filter (
        where subtype = 'success' and not warnings @> '["wrong_language"]'
    ) as in_language
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and kind = 'reply'
    and (%(user_id)s::text is null or private_to in ('', %(user_id)s))
    and recorded_at >= %(since)s
    and recorded_at < %(until)s
    and locale is not null
group by language
order by language

-- name: consumption
-- One row an operation. The row with a null operation counts all operations.
select
    operation_type as operation,
    count(*) as replies,
    coalesce(sum(billed_seconds), 0) as seconds,
    coalesce(sum(bonus_seconds), 0) as bonus_seconds,
    coalesce(sum(billed_seconds) filter (where bonus_seconds is null), 0) as unknown_seconds,
    coalesce(sum(cost_usd), 0) as cost_usd,
    coalesce(sum(input_tokens), 0)::bigint as input_tokens,
    coalesce(sum(output_tokens), 0)::bigint as output_tokens,
    coalesce(sum(cache_read_tokens), 0)::bigint as cache_read_tokens,
    coalesce(sum(cache_write_tokens), 0)::bigint as cache_write_tokens
from app.consumption
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and (
        %(user_id)s::text is null
        or user_id = %(user_id)s
        or not starts_with(session_id, %(private_id)s)
    )
    and recorded_at >= %(since)s
    and recorded_at < %(until)s
group by grouping sets ((operation_type), ())

-- name: sessions
-- The planning sessions that were opened in the span.
select
    count(*) as sessions,
    count(*) filter (where status = 'converted') as converted,
    coalesce(avg(message_count), 0) as messages,
    coalesce(sum(message_count), 0) as all_messages,
    coalesce(sum(greatest(message_count - 1, 0)), 0) as continued_messages,
    coalesce(
        percentile_cont(0.5) within group (
            order by extract(epoch from last_active_at - opened_at)
        ),
        0
    ) as median_seconds,
    coalesce(avg(cost_usd), 0) as cost_usd
from app.sessions
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'plan'
    and status <> 'deleted'
    and opened_at >= %(since)s
    and opened_at < %(until)s

-- name: builds
-- The builds that were queued in the span. `converted` counts the builds of plans. The median is of
-- the builds that succeeded: a failed build says nothing of how long a build takes.
select
    count(*) as builds,
    count(*) filter (where status = 'succeeded') as succeeded,
    count(*) filter (where status = 'failed') as failed,
    count(*) filter (where converted_from_session_id is not null) as converted,
    count(*) filter (
        where converted_from_session_id is not null and status = 'succeeded'
    ) as converted_succeeded,
    count(*) filter (
        where converted_from_session_id is not null and status = 'failed'
    ) as converted_failed,
    percentile_cont(0.5) within group (
        order by extract(epoch from ended_at - queued_at)
    ) filter (where status = 'succeeded') as median_seconds
from app.builds
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and queued_at >= %(since)s
    and queued_at < %(until)s

-- name: runs
-- The runs that were queued in the span. The median is of the runs that succeeded, as for builds.
select
    count(*) as runs,
    count(*) filter (where status = 'succeeded') as succeeded,
    count(*) filter (where status = 'failed') as failed,
    percentile_cont(0.5) within group (
        order by extract(epoch from ended_at - queued_at)
    ) filter (where status = 'succeeded') as median_seconds
from app.runs
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and queued_at >= %(since)s
    and queued_at < %(until)s

-- name: prompts
-- The prompts that were created, the versions that were added and the improvements that were written
-- in the span. An improvement is accepted when a version has it as its source.
select
    (
        select count(*)
        from app.prompts
        where tenant_id = %(tenant_id)s
            and project_id = %(project_id)s
            and created_at >= %(since)s
            and created_at < %(until)s
    ) as prompts,
    count(*) as versions,
    count(version.source_message_id) as accepted,
    (
        select count(*)
        from app.timeline
        where tenant_id = %(tenant_id)s
            and project_id = %(project_id)s
            and kind = 'reply'
            and subtype = 'success'
            and chat_mode = 'improvement'
            and recorded_at >= %(since)s
            and recorded_at < %(until)s
    ) as improvements
from app.prompts as prompt
join app.prompt_versions as version
    on version.tenant_id = prompt.tenant_id and version.prompt_id = prompt.prompt_id
where prompt.tenant_id = %(tenant_id)s
    and prompt.project_id = %(project_id)s
    and version.created_at >= %(since)s
    and version.created_at < %(until)s

-- name: saved_runs
-- The sessions of prompts that were opened in the span. Whoever comes back after an hour has returned
-- to the session.
select
    count(*) as saved_runs,
    count(*) filter (where last_active_at >= opened_at + interval '1 hour') as returned,
    coalesce(avg(message_count), 0) as messages,
    count(distinct user_id) as users,
    (
        select count(*)
        from app.members
        where tenant_id = %(tenant_id)s and project_id = %(project_id)s
    ) as members
from app.sessions
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'prompt'
    and status <> 'deleted'
    and (%(user_id)s::text is null or user_id = %(user_id)s)
    and opened_at >= %(since)s
    and opened_at < %(until)s

-- name: past_bills
-- The bills of the project's last replies, one row an operation.
select
    operation_type as operation,
    count(*) as replies,
    percentile_cont(0.5) within group (order by billed_seconds) as median_seconds,
    percentile_cont(0.9) within group (order by billed_seconds) as most_seconds
from (
    select operation_type, billed_seconds
    from app.consumption
    where tenant_id = %(tenant_id)s
        and project_id = %(project_id)s
        and (
            %(user_id)s::text is null
            or user_id = %(user_id)s
            or not starts_with(session_id, %(private_id)s)
        )
    order by position desc
    limit 500
) as recent
group by operation_type
