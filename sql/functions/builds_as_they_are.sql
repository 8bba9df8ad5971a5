-- The builds, for the views of other read models.
--
-- A function finds its table by name at each call, and a view does not. So the table can be rebuilt
-- and swapped while views of other read models show it. PostgreSQL inlines the function.
create or replace function app.builds_as_they_are() returns table (
    tenant_id text, build_id text, status text, version_id text, preview_url text,
    artifact_url text, duration_ms bigint
)
language sql stable as $$
    select
        tenant_id, build_id, status, version_id, preview_url, artifact_url,
        (extract(epoch from ended_at - queued_at) * 1000)::bigint
    from app.builds
$$;

comment on function app.builds_as_they_are() is
    'The builds, for the views of other read models.';
