-- Read models that views of other ones show, found by name when they are read: so that each can be
-- rebuilt and swapped by itself, whoever shows it. They are inlined into the query around them.

set local check_function_bodies = off;

create function app.builds_as_they_are() returns table (
    tenant_id text, build_id text, status text, version_id text, preview_url text,
    artifact_url text, duration_ms bigint
)
language sql stable as $$
    select
        tenant_id, build_id, status, version_id, preview_url, artifact_url,
        (extract(epoch from ended_at - queued_at) * 1000)::bigint
    from app.builds
$$;
comment on function app.builds_as_they_are() is 'The builds, for views that show them with others.';

create function app.build_events_as_they_are() returns table (
    tenant_id text, build_id text, "position" bigint, event_id text, phase text, type text,
    title text, user_visible boolean, version_id text, preview_url text, artifact_url text,
    error text, at timestamptz
)
language sql stable as $$
    select
        tenant_id, build_id, position, event_id, phase, type, title, user_visible, version_id,
        preview_url, artifact_url, error, at
    from app.build_events
$$;
comment on function app.build_events_as_they_are() is
    'What workers reported, for views that show it with others.';
