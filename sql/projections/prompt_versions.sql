-- The versions of the prompts, with their texts. A version never changes, and erasure removes it.

-- name: table
create table prompt_versions (
    tenant_id  text        not null collate "C",
    prompt_id  text        not null collate "C",
    number     integer     not null,
    prompt_version_id text not null collate "C",
    project_id text        not null collate "C",
    user_id    text        not null,
    text       text        not null,
    placeholders text[]    not null,
    note       text,
    source_session_id text,
    source_message_id text,
    created_at timestamptz not null,
    position   bigint      not null,
    primary key (tenant_id, prompt_id, number)
);
grant select, insert, delete on prompt_versions to throughline_service;

-- name: apply
create or replace function apply_prompt_versions(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into prompt_versions (
        tenant_id, prompt_id, number, prompt_version_id, project_id, user_id, text, placeholders,
        note, source_session_id, source_message_id, created_at, position
    )
    select
        event.tenant_id, state.prompt_id, state.number, state.prompt_version_id, event.project_id,
        state.user_id, state.text,
        array(select jsonb_array_elements_text(state.placeholders)),
        state.note, state.source_session_id, state.source_message_id, event.recorded_at,
        event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        prompt_id text, number integer, prompt_version_id text, user_id text, text text,
        placeholders jsonb, note text, source_session_id text, source_message_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'PromptVersionAdded';

    -- The end of the erasure comes through also where the stream is set aside.
    delete from prompt_versions
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        prompt_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type in ('PromptErasureRequested', 'PromptErased')
        and prompt_versions.tenant_id = event.tenant_id
        and prompt_versions.prompt_id = state.prompt_id;
end
$$;

-- name: view
create view analytics.prompt_versions with (security_invoker) as
select
    tenant_id, project_id, prompt_id, number, prompt_version_id, user_id, text, placeholders, note,
    source_session_id, source_message_id, created_at, position
from app.prompt_versions;
comment on view analytics.prompt_versions is
    'The versions of the prompts, one row a version. A version never changes.';
comment on column analytics.prompt_versions.tenant_id is 'The tenant of the project.';
comment on column analytics.prompt_versions.project_id is 'The project.';
comment on column analytics.prompt_versions.prompt_id is 'The prompt of the version.';
comment on column analytics.prompt_versions.number is
    'The number of the version, counted from 1 for each prompt.';
comment on column analytics.prompt_versions.prompt_version_id is 'The version.';
comment on column analytics.prompt_versions.user_id is 'The id of the author of the version.';
comment on column analytics.prompt_versions.text is 'The whole text, with its placeholders.';
comment on column analytics.prompt_versions.placeholders is
    'The names of the placeholders, in the order of their first appearance.';
comment on column analytics.prompt_versions.note is
    'What the user said about the version; null if nothing.';
comment on column analytics.prompt_versions.source_session_id is
    'The session of the reply that proposed the text; null if a user wrote the text.';
comment on column analytics.prompt_versions.source_message_id is
    'The reply that proposed the text; null if a user wrote the text.';
comment on column analytics.prompt_versions.created_at is 'The time when the version was added.';
comment on column analytics.prompt_versions.position is 'The position of the event in the log.';
grant select on analytics.prompt_versions, app.prompt_versions to throughline_analyst;

-- name: of_number
-- A version with the present name and status of its prompt. `usage_count` is the number of sessions
-- that are made of the version, of all users.
select
    prompt_versions.prompt_id, prompt_versions.project_id, number, prompt_version_id,
    prompt_versions.user_id, text, placeholders, note, source_session_id, source_message_id,
    prompt_versions.created_at, prompts.name, prompts.status,
    (
        select count(*) from app.sessions
        where sessions.tenant_id = prompt_versions.tenant_id
            and sessions.prompt_id = prompt_versions.prompt_id
            and sessions.prompt_version_id = prompt_versions.prompt_version_id
            and sessions.status <> 'deleted'
    ) as usage_count
from app.prompt_versions
join app.prompts
    on prompts.tenant_id = prompt_versions.tenant_id
        and prompts.prompt_id = prompt_versions.prompt_id
where prompt_versions.tenant_id = %(tenant_id)s
    and prompt_versions.prompt_id = %(prompt_id)s
    and number = %(number)s

-- name: page
-- The versions of a prompt, newest first, as above and without their texts.
select
    prompt_versions.prompt_id, prompt_versions.project_id, number, prompt_version_id,
    prompt_versions.user_id, null::text as text, placeholders, note, source_session_id,
    source_message_id, prompt_versions.created_at, prompts.name, prompts.status,
    (
        select count(*) from app.sessions
        where sessions.tenant_id = prompt_versions.tenant_id
            and sessions.prompt_id = prompt_versions.prompt_id
            and sessions.prompt_version_id = prompt_versions.prompt_version_id
            and sessions.status <> 'deleted'
    ) as usage_count
from app.prompt_versions
join app.prompts
    on prompts.tenant_id = prompt_versions.tenant_id
        and prompts.prompt_id = prompt_versions.prompt_id
where prompt_versions.tenant_id = %(tenant_id)s
    and prompt_versions.prompt_id = %(prompt_id)s
    and number < %(below)s
order by number desc
limit %(limit)s
