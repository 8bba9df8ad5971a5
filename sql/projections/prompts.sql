-- The prompts of the projects. `active_position` is the position of the newest version: lists are
-- ordered by it. An erasure first erases the sessions of the prompt. Until then the prompt has a row
-- without a name, and any server can find this row and finish the erasure.

-- name: table
create table prompts (
    tenant_id  text        not null collate "C",
    prompt_id  text        not null collate "C",
    project_id text        not null collate "C",
    user_id    text        not null,
    name       text        not null,
    status     text        not null default 'active',
    versions   integer     not null default 0,
    created_at timestamptz not null,
    active_at  timestamptz not null,
    active_position bigint not null,
    primary key (tenant_id, prompt_id)
);
create index prompts_of_project on prompts (tenant_id, project_id, active_position);
create index prompts_erasing on prompts (created_at) where status = 'erasing';
grant select, insert, update, delete on prompts to throughline_service;

-- name: apply
create or replace function apply_prompts(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into prompts (
        tenant_id, prompt_id, project_id, user_id, name, created_at, active_at, active_position
    )
    select
        event.tenant_id, state.prompt_id, state.project_id, state.user_id, state.name,
        event.recorded_at, event.recorded_at, event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        prompt_id text, project_id text, user_id text, name text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'PromptCreated';

    -- A prompt can change several times in the range; the last change of each kind counts.
    update prompts
    set
        name = case
            when change.status = 'erasing' then ''
            else coalesce(change.name, prompts.name)
        end,
        status = coalesce(change.status, prompts.status),
        versions = coalesce(change.number, prompts.versions),
        active_at = coalesce(change.active_at, prompts.active_at),
        active_position = coalesce(change.active_position, prompts.active_position)
    from (
        select
            event.tenant_id,
            state.prompt_id,
            (array_agg(state.name order by event.position desc) filter (
                where event.type = 'PromptRenamed'
            ))[1] as name,
            (array_agg(
                case event.type
                    when 'PromptArchived' then 'archived'
                    when 'PromptRestored' then 'active'
                    when 'PromptErasureRequested' then 'erasing'
                end
                order by event.position desc
            ) filter (
                where event.type in ('PromptArchived', 'PromptRestored', 'PromptErasureRequested')
            ))[1] as status,
            max(state.number) as number,
            max(event.recorded_at) filter (where event.type = 'PromptVersionAdded') as active_at,
            max(event.position) filter (where event.type = 'PromptVersionAdded') as active_position
        from event
        cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
            prompt_id text, name text, number integer
        )
        where event.position > p_after and event.position <= p_upto
            and event.type in (
                'PromptVersionAdded', 'PromptRenamed', 'PromptArchived', 'PromptRestored',
                'PromptErasureRequested'
            )
        group by event.tenant_id, state.prompt_id
    ) as change
    where prompts.tenant_id = change.tenant_id and prompts.prompt_id = change.prompt_id;

    delete from prompts
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        prompt_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'PromptErased'
        and prompts.tenant_id = event.tenant_id
        and prompts.prompt_id = state.prompt_id;
end
$$;

-- name: view
create view analytics.prompts with (security_invoker) as
select
    tenant_id, project_id, prompt_id, user_id, name, status, versions, created_at, active_at
from app.prompts
where status <> 'erasing';
comment on view analytics.prompts is 'The prompts of the projects, one row a prompt.';
comment on column analytics.prompts.tenant_id is 'The tenant of the project.';
comment on column analytics.prompts.project_id is 'The project.';
comment on column analytics.prompts.prompt_id is 'The prompt.';
comment on column analytics.prompts.user_id is 'The id of the author of the prompt.';
comment on column analytics.prompts.name is 'The present name of the prompt.';
comment on column analytics.prompts.status is 'active or archived.';
comment on column analytics.prompts.versions is 'The number of versions.';
comment on column analytics.prompts.created_at is 'The time when the prompt was created.';
comment on column analytics.prompts.active_at is 'The time of the newest version.';
grant select on analytics.prompts, app.prompts to throughline_analyst;

-- part: columns
-- `saved_runs` counts the sessions that the user has made of the prompt and not archived; it is null
-- without a user.
prompt_id, project_id, user_id, name, status, versions, created_at, active_at, active_position,
    case when %(user_id)s::text is not null then (
        select count(*) from app.sessions
        where sessions.tenant_id = prompts.tenant_id
            and sessions.prompt_id = prompts.prompt_id
            and sessions.user_id = %(user_id)s
            and sessions.status not in ('archived', 'deleted')
    ) end as saved_runs

-- part: wanted
-- The prompts of a list.
tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and case
        when status = 'erasing' or status <> all (%(statuses)s) then false
        when strpos(lower(name), lower(%(query)s)) = 0 then false
        else true
    end

-- name: of_id
select {columns}
from app.prompts
where tenant_id = %(tenant_id)s and prompt_id = %(prompt_id)s and status <> 'erasing'

-- name: page_recent
-- The prompts of a project, those with the newest version first, as above.
select {columns},
    '' as name_key, active_position as position_key, app.cursor_at(active_position) as cursor
from app.prompts
where {wanted}
    and active_position < %(before)s
order by active_position desc
limit %(limit)s

-- name: page_oldest
-- The same prompts, those with the newest version last.
select {columns},
    '' as name_key, active_position as position_key, app.cursor_at(active_position) as cursor
from app.prompts
where {wanted}
    and active_position > %(after)s
order by active_position
limit %(limit)s

-- name: page_name
-- The same prompts by their names. All prompts of the project are sorted for each page.
select *
from (
    select {columns},
        lower(name) collate "C" as name_key,
        -active_position as position_key,
        app.cursor_at(active_position) as cursor
    from app.prompts
    where {wanted}
) as listed
where (name_key, position_key) > (%(after_name)s, %(after_position)s)
order by name_key, position_key
limit %(limit)s

-- name: erasing
-- The prompts of all tenants that wait for their erasure, oldest first.
select tenant_id, project_id, prompt_id
from app.prompts
where status = 'erasing'
order by created_at
limit %(limit)s
