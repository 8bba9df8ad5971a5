-- The projects, with what a planner should know of each.

-- name: table
create table projects (
    tenant_id     text        not null collate "C",
    project_id    text        not null collate "C",
    name          text        not null,
    framework     text,
    source_root   text,
    registered_at timestamptz not null,
    primary key (tenant_id, project_id)
);
grant select, insert on projects to throughline_service;

-- name: apply
create or replace function apply_projects(p_after bigint, p_upto bigint) returns void
-- Its plan is made when the log is young and kept while it grows: never by reading all of it.
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into projects (tenant_id, project_id, name, framework, source_root, registered_at)
    select
        event.tenant_id, state.project_id, state.name, state.framework, state.source_root,
        event.recorded_at
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        project_id text, name text, framework text, source_root text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'ProjectRegistered';
end
$$;

-- name: of_member
-- The project, if the user is a member of it.
select project_id, name, framework, source_root, registered_at
from app.projects
where tenant_id = %(tenant_id)s and project_id = %(project_id)s
    and exists (
        select from app.members
        where members.tenant_id = projects.tenant_id
            and members.project_id = projects.project_id
            and members.user_id = %(user_id)s
    )

-- name: of_tenant
-- The project, whoever asks for the tenant itself.
select project_id, name, framework, source_root, registered_at
from app.projects
where tenant_id = %(tenant_id)s and project_id = %(project_id)s
