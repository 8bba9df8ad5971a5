-- Figures of one project over a span of time: sums over the read models.

-- name: replies
-- One row a mode. The row with a null mode counts all replies. A failed reply has no mode.
select
    chat_mode as mode,
    count(*) as replies,
    count(*) filter (where subtype = 'success') as succeeded,
    count(*) filter (where subtype = 'partial') as cut_off,
    count(*) filter (where subtype = 'error') as failed,
    percentile_cont(0.5) within group (order by duration_ms) as p50_ms,
    percentile_cont(0.95) within group (order by duration_ms) as p95_ms
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and kind = 'reply'
    and recorded_at >= %(since)s
    and recorded_at < %(until)s
group by grouping sets ((chat_mode), ())
having grouping(chat_mode) = 1 or chat_mode is not null

-- name: consumption
-- One row an operation. The row with a null operation counts all operations.
select
    operation_type as operation,
    count(*) as replies,
    coalesce(sum(billed_seconds), 0) as seconds,
    coalesce(sum(cost_usd), 0) as cost_usd,
    coalesce(sum(input_tokens), 0)::bigint as input_tokens,
    coalesce(sum(output_tokens), 0)::bigint as output_tokens,
    coalesce(sum(cache_read_tokens), 0)::bigint as cache_read_tokens,
    coalesce(sum(cache_write_tokens), 0)::bigint as cache_write_tokens
from app.consumption
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and recorded_at >= %(since)s
    and recorded_at < %(until)s
group by grouping sets ((operation_type), ())

-- name: sessions
-- The planning sessions that were opened in the span.
select
    count(*) as sessions,
    count(*) filter (where status = 'converted') as converted,
    coalesce(avg(message_count), 0) as messages,
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
-- The builds that were queued in the span. `converted` counts the builds of plans.
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
    ) as median_seconds
from app.builds
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and queued_at >= %(since)s
    and queued_at < %(until)s
