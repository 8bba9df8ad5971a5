-- The members of each project, with their roles.

-- name: table
create table members (
    tenant_id  text        not null collate "C",
    project_id text        not null collate "C",
    user_id    text        not null collate "C",
    role       text        not null,
    since      timestamptz not null,
    primary key (tenant_id, project_id, user_id)
);
create index members_of_user on members (tenant_id, user_id, project_id);
grant select, insert, update, delete on members to throughline_service;

-- name: apply
create or replace function apply_members(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    -- A membership can change several times in the range; the last change counts.
    merge into members
    using (
        select distinct on (event.tenant_id, state.project_id, state.user_id)
            event.tenant_id, state.project_id, state.user_id, state.role, event.recorded_at,
            event.type = 'MemberRemoved' as is_removed
        from event
        cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
            project_id text, user_id text, role text
        )
        where event.position > p_after and event.position <= p_upto
            and event.type in ('MemberAdded', 'MemberRemoved')
        order by event.tenant_id, state.project_id, state.user_id, event.position desc
    ) as change
    on members.tenant_id = change.tenant_id
        and members.project_id = change.project_id
        and members.user_id = change.user_id
    when matched and change.is_removed then delete
    when matched then update set role = change.role, since = change.recorded_at
    when not matched and not change.is_removed then insert (
        tenant_id, project_id, user_id, role, since
    ) values (
        change.tenant_id, change.project_id, change.user_id, change.role, change.recorded_at
    );

    delete from members
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        project_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'ProjectErasureRequested'
        and members.tenant_id = event.tenant_id
        and members.project_id = state.project_id;
end
$$;

-- name: view
create view analytics.project_members with (security_invoker) as
select tenant_id, project_id, user_id, role, since
from app.members;
comment on view analytics.project_members is
    'The members of the projects, one row a member of a project.';
comment on column analytics.project_members.tenant_id is 'The tenant of the project.';
comment on column analytics.project_members.project_id is 'The project.';
comment on column analytics.project_members.user_id is 'The user.';
comment on column analytics.project_members.role is 'owner, editor or viewer.';
comment on column analytics.project_members.since is 'The time when the user became a member.';
grant select on analytics.project_members, app.members to throughline_analyst;

-- name: page
-- The members of a project, in the order of their ids.
select user_id, role, since
from app.members
where tenant_id = %(tenant_id)s and project_id = %(project_id)s and user_id > %(after_user_id)s
order by user_id
limit %(limit)s

-- name: role
-- The role of a user in a project.
select role
from app.members
where tenant_id = %(tenant_id)s and project_id = %(project_id)s and user_id = %(user_id)s
