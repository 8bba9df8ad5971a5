-- The projects, with the facts that a prompt needs: the running build, the last build, and the
-- deployed version.

-- name: table
create table projects (
    tenant_id     text        not null collate "C",
    project_id    text        not null collate "C",
    name          text        not null,
    framework     text,
    source_root   text,
    registered_at timestamptz not null,
    registered_position bigint not null,
    active_build_id text,
    last_build_id text,
    version_id    text,
    modified_at   timestamptz not null,
    erasing_since timestamptz,
    primary key (tenant_id, project_id)
);
create index projects_of_tenant on projects (tenant_id, registered_position);
create index projects_erasing on projects (erasing_since) where erasing_since is not null;
grant select, insert, update, delete on projects to throughline_service;

-- name: apply
create or replace function apply_projects(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into projects (
        tenant_id, project_id, name, framework, source_root, registered_at,
        registered_position, modified_at
    )
    select
        event.tenant_id, state.project_id, state.name, state.framework, state.source_root,
        event.recorded_at, event.position, event.recorded_at
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        project_id text, name text, framework text, source_root text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'ProjectRegistered';

    -- The last description in the range counts.
    update projects
    set name = change.name, framework = change.framework, source_root = change.source_root
    from (
        select distinct on (event.tenant_id, state.project_id)
            event.tenant_id, state.project_id, state.name, state.framework, state.source_root
        from event
        cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
            project_id text, name text, framework text, source_root text
        )
        where event.position > p_after and event.position <= p_upto
            and event.type = 'ProjectDescribed'
        order by event.tenant_id, state.project_id, event.position desc
    ) as change
    where projects.tenant_id = change.tenant_id and projects.project_id = change.project_id;

    -- A project can change several times in the range; the last change of each kind counts.
    update projects
    set
        active_build_id = case
            when change.is_locked is null then projects.active_build_id
            when change.is_locked then change.build_id
        end,
        last_build_id = coalesce(change.build_id, projects.last_build_id),
        version_id = coalesce(change.version_id, projects.version_id),
        modified_at = coalesce(change.modified_at, projects.modified_at)
    from (
        select
            event.tenant_id,
            state.project_id,
            (array_agg(event.type = 'ProjectLocked' order by event.position desc) filter (
                where event.type in ('ProjectLocked', 'ProjectUnlocked')
            ))[1] as is_locked,
            (array_agg(state.build_id order by event.position desc) filter (
                where event.type = 'ProjectLocked'
            ))[1] as build_id,
            (array_agg(state.version_id order by event.position desc) filter (
                where event.type = 'VersionDeployed'
            ))[1] as version_id,
            max(event.recorded_at) filter (where event.type = 'VersionDeployed') as modified_at
        from event
        cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
            project_id text, build_id text, version_id text
        )
        where event.position > p_after and event.position <= p_upto
            and event.type in ('ProjectLocked', 'ProjectUnlocked', 'VersionDeployed')
        group by event.tenant_id, state.project_id
    ) as change
    where projects.tenant_id = change.tenant_id and projects.project_id = change.project_id;

    -- From the request until the erasure is complete, only the job that erases sees the project.
    update projects
    set erasing_since = event.recorded_at, name = '', framework = null, source_root = null
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        project_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'ProjectErasureRequested'
        and projects.tenant_id = event.tenant_id
        and projects.project_id = state.project_id;

    delete from projects
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        project_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'ProjectErased'
        and projects.tenant_id = event.tenant_id
        and projects.project_id = state.project_id;
end
$$;

-- name: view
create view analytics.projects with (security_invoker) as
select
    tenant_id, project_id, name, framework, version_id, last_build_id, registered_at, modified_at
from app.projects
where erasing_since is null;
comment on view analytics.projects is 'The projects, one row each.';
comment on column analytics.projects.tenant_id is 'The tenant of the project.';
comment on column analytics.projects.project_id is 'The project.';
comment on column analytics.projects.name is 'The present name of the project.';
comment on column analytics.projects.framework is
    'The framework that the project says it uses; null if it says none.';
comment on column analytics.projects.version_id is
    'The newest deployed version; null before the first one.';
comment on column analytics.projects.last_build_id is
    'The newest build; null before the first one.';
comment on column analytics.projects.registered_at is 'The time when the project was registered.';
comment on column analytics.projects.modified_at is
    'The time of the newest version; before the first one, the time of the registration.';
grant select on analytics.projects to throughline_analyst;
grant select (
    tenant_id, project_id, name, framework, version_id, last_build_id, registered_at, modified_at,
    erasing_since
) on app.projects to throughline_analyst;

-- name: of_member
-- The project, if the user is its member.
select
    projects.project_id, projects.name, projects.framework, projects.source_root,
    projects.registered_at, projects.active_build_id, projects.last_build_id, projects.version_id,
    projects.modified_at, projects.erasing_since, build.status as last_build_status,
    coalesce(build.ended_at, build.queued_at) as last_build_at
from app.projects
left join app.builds as build
    on build.tenant_id = projects.tenant_id and build.build_id = projects.last_build_id
where projects.tenant_id = %(tenant_id)s and projects.project_id = %(project_id)s
    and exists (
        select from app.members
        where members.tenant_id = projects.tenant_id
            and members.project_id = projects.project_id
            and members.user_id = %(user_id)s
    )

-- name: by_id
-- The project, for the tenant's own backend.
select
    projects.project_id, projects.name, projects.framework, projects.source_root,
    projects.registered_at, projects.active_build_id, projects.last_build_id, projects.version_id,
    projects.modified_at, projects.erasing_since, build.status as last_build_status,
    coalesce(build.ended_at, build.queued_at) as last_build_at
from app.projects
left join app.builds as build
    on build.tenant_id = projects.tenant_id and build.build_id = projects.last_build_id
where projects.tenant_id = %(tenant_id)s and projects.project_id = %(project_id)s

-- name: page_of_member
-- The projects of a user, with the user's role, newest first.
select
    projects.project_id, name, framework, source_root, registered_at, active_build_id,
    last_build_id, version_id, modified_at, erasing_since, registered_position, role,
    app.cursor_at(registered_position) as cursor
from app.members
join app.projects
    on projects.tenant_id = members.tenant_id and projects.project_id = members.project_id
where members.tenant_id = %(tenant_id)s
    and members.user_id = %(user_id)s
    and registered_position < %(before)s
    and erasing_since is null
order by registered_position desc
limit %(limit)s

-- name: page
-- The projects of the tenant, newest first.
select
    project_id, name, framework, source_root, registered_at, active_build_id,
    last_build_id, version_id, modified_at, erasing_since, registered_position,
    null::text as role, app.cursor_at(registered_position) as cursor
from app.projects
where tenant_id = %(tenant_id)s
    and registered_position < %(before)s
    and erasing_since is null
order by registered_position desc
limit %(limit)s

-- name: erasing
-- The projects of all tenants that wait for their erasure, oldest first.
select tenant_id, project_id
from app.projects
where erasing_since is not null
order by erasing_since
limit %(limit)s
