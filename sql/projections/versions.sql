-- The versions of the projects: one row for each deployed build.

-- name: table
create table versions (
    tenant_id    text        not null collate "C",
    build_id     text        not null collate "C",
    project_id   text        not null collate "C",
    version_id   text        not null,
    preview_url  text,
    artifact_url text,
    deployed_at  timestamptz not null,
    position     bigint      not null,
    primary key (tenant_id, build_id)
);
create index versions_of_project on versions (tenant_id, project_id, position);
grant select, insert, delete on versions to throughline_service;

-- name: apply
create or replace function apply_versions(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into versions (
        tenant_id, build_id, project_id, version_id, preview_url, artifact_url, deployed_at, position
    )
    select
        event.tenant_id, state.build_id, state.project_id, state.version_id, state.preview_url,
        state.artifact_url, event.recorded_at, event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        build_id text, project_id text, version_id text, preview_url text, artifact_url text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'VersionDeployed';

    delete from versions
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        build_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'BuildErased'
        and versions.tenant_id = event.tenant_id
        and versions.build_id = state.build_id;
end
$$;

-- name: view
create view analytics.project_versions with (security_invoker) as
select
    tenant_id, project_id, version_id, build_id, preview_url, artifact_url, deployed_at, position
from app.versions;
comment on view analytics.project_versions is
    'The versions of the projects, one row a version.';
comment on column analytics.project_versions.tenant_id is 'The tenant of the project.';
comment on column analytics.project_versions.project_id is 'The project.';
comment on column analytics.project_versions.version_id is
    'The id that the worker gave the version.';
comment on column analytics.project_versions.build_id is 'The build that made it.';
comment on column analytics.project_versions.preview_url is
    'The URL where people can look at the version.';
comment on column analytics.project_versions.artifact_url is 'The URL of the version''s files.';
comment on column analytics.project_versions.deployed_at is
    'The time when the version was deployed.';
comment on column analytics.project_versions.position is 'The position of the event in the log.';
grant select on analytics.project_versions, app.versions to throughline_analyst;

-- name: newest
select version_id, build_id, preview_url, artifact_url, deployed_at, position,
    app.cursor_at(position) as cursor
from app.versions
where tenant_id = %(tenant_id)s and project_id = %(project_id)s and position < %(before)s
order by position desc
limit %(limit)s

-- name: of_id
-- The newest version of a project with this id: a worker may give an id twice.
select version_id, build_id, preview_url, artifact_url, deployed_at, position,
    app.cursor_at(position) as cursor
from app.versions
where tenant_id = %(tenant_id)s and project_id = %(project_id)s and version_id = %(version_id)s
order by position desc
limit 1
