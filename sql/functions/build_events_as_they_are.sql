-- The reports of builds, for the views of other read models. See app.builds_as_they_are.
create or replace function app.build_events_as_they_are() returns table (
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
    'The reports of builds, for the views of other read models.';
