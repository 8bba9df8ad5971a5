-- The unified timeline of each project: one row for each event that a reader sees, in log order.
-- Rows are only ever added, until they are erased. What happened to a session itself (opened, renamed, ended) is a row too,
-- but a hidden one: it is shown on request. How a build came along and whether the project is locked
-- are rows for those who watch live; a page shows them in its other items, as they are now.

-- name: table
create table timeline (
    position    bigint      not null,
    tenant_id   text        not null collate "C",
    project_id  text        not null collate "C",
    mode        text        not null collate "C",
    item_id     text        not null collate "C",
    kind        text        not null collate "C",
    is_visible  boolean     not null,
    is_live     boolean     not null,
    session_id  text        collate "C",
    user_id     text,
    chat_mode   text,
    text        text,
    data        jsonb,
    subtype     text,
    tokens_used integer,
    duration_ms integer,
    build_id    text        collate "C",
    converted_from_session_id text,
    recorded_at timestamptz not null,
    -- Positions are unique by themselves. But an index on them alone would tempt the planner to look
    -- for a quiet project's rows among everybody's.
    primary key (tenant_id, project_id, position)
);
create index timeline_page_of_builds on timeline (tenant_id, project_id, position)
where mode = 'build';
create index timeline_request_of_build on timeline (tenant_id, build_id)
where kind = 'user_message' and build_id is not null;
grant select, insert, delete on timeline to throughline_service;

-- name: apply
create or replace function apply_timeline(p_after bigint, p_upto bigint) returns void
-- Its plan is made when the log is young and kept while it grows: never by reading all of it.
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into timeline (
        position, tenant_id, project_id, mode, item_id, kind, is_visible, is_live, session_id,
        user_id, chat_mode, text, data, subtype, tokens_used, duration_ms, build_id,
        converted_from_session_id, recorded_at
    )
    select
        event.position,
        event.tenant_id,
        event.project_id,
        case
            when event.type in ('UserMessagePosted', 'SystemMessagePosted')
                then coalesce(state.mode, 'plan')
            when is_of_build or kind = 'lock' then 'build'
            else 'plan'
        end,
        case event.type
            when 'VersionDeployed' then state.version_id
            else coalesce(state.message_id, event.position::text)
        end,
        kind,
        case
            when kind in ('build_status', 'lock', 'erasure', 'session') then false
            else coalesce(state.visible, true)
        end,
        kind in ('build_status', 'lock', 'erasure'),
        state.session_id,
        state.user_id,
        case event.type
            when 'UserMessagePosted' then state.chat_mode
            when 'ReplyCompleted' then state.mode
        end,
        case event.type when 'BuildReferenced' then state.title else state.text end,
        case event.type
            when 'ReplyCompleted' then state.data
            when 'SystemMessagePosted' then jsonb_build_object(
                'type', coalesce(state.type, 'message'),
                'template', state.template,
                'contractVersion', coalesce(state.contract_version, '1.0'),
                'variables', state.variables
            )
            when 'ReplyFailed' then jsonb_build_object('code', state.code)
            when 'SessionRenamed' then jsonb_build_object('event', event.type, 'name', state.name)
            when 'SessionModeChanged'
                then jsonb_build_object('event', event.type, 'mode', state.mode)
            when 'PlanSaved'
                then jsonb_build_object('event', event.type, 'messageId', state.message_id)
            when 'ProjectLocked' then jsonb_build_object('activeBuildId', state.build_id)
            when 'ProjectUnlocked' then jsonb_build_object('activeBuildId', null)
            when 'SessionDeleted' then jsonb_build_object('sessionId', state.session_id)
            when 'BuildErased' then jsonb_build_object('buildId', state.build_id)
            else case when kind = 'session' then jsonb_build_object('event', event.type) end
        end,
        case event.type when 'ReplyFailed' then 'error' else state.subtype end,
        state.tokens_used,
        state.duration_ms,
        case
            when is_of_build or event.type in ('UserMessagePosted', 'SystemMessagePosted')
                then state.build_id
        end,
        state.converted_from_session_id,
        event.recorded_at
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        message_id text, session_id text, user_id text, visible boolean, chat_mode text, mode text,
        text text, data jsonb, template text, variables jsonb, code text, name text, subtype text,
        tokens_used integer, duration_ms integer, build_id text, converted_from_session_id text,
        type text, contract_version text, title text, version_id text
    )
    cross join lateral (
        select case event.type
            when 'UserMessagePosted' then 'user_message'
            when 'ReplyCompleted' then 'reply'
            when 'ReplyFailed' then 'reply'
            when 'SystemMessagePosted' then 'system_message'
            when 'BuildReferenced' then 'build_reference'
            when 'VersionDeployed' then 'deployment'
            when 'BuildClaimed' then 'build_status'
            when 'BuildSucceeded' then 'build_status'
            when 'BuildFailed' then 'build_status'
            when 'ProjectLocked' then 'lock'
            when 'ProjectUnlocked' then 'lock'
            when 'SessionDeleted' then 'erasure'
            when 'BuildErased' then 'erasure'
            else 'session'
        end as kind
    ) as shown
    cross join lateral (
        select
            kind in ('build_reference', 'deployment', 'build_status')
            or event.type = 'BuildErased' as is_of_build
    ) as about
    where event.position > p_after and event.position <= p_upto
        and event.type in (
            'UserMessagePosted', 'ReplyCompleted', 'ReplyFailed', 'SystemMessagePosted',
            'PlanSaved', 'SessionOpened', 'SessionRenamed', 'SessionModeChanged',
            'SessionConverted', 'SessionArchived', 'SessionExpired', 'SessionDeleted',
            'BuildClaimed', 'BuildReferenced', 'BuildSucceeded', 'BuildFailed', 'VersionDeployed',
            'BuildErased', 'ProjectLocked', 'ProjectUnlocked'
        )
    order by event.position;

    -- Of what was erased the marker alone stays, for those who watch: not what stems from the other
    -- events of its stream, and of a project nothing at all. Most ranges have nothing of the kind.
    if exists (
        select from event
        where event.position > p_after and event.position <= p_upto
            and event.type in ('SessionDeleted', 'BuildErased', 'ProjectErased')
    ) then
        delete from timeline
        using event as erased
        join event as said
            on said.tenant_id = erased.tenant_id and said.stream_id = erased.stream_id
                and said.version < erased.version
        where erased.position > p_after and erased.position <= p_upto
            and erased.type in ('SessionDeleted', 'BuildErased')
            and timeline.tenant_id = said.tenant_id
            and timeline.project_id = said.project_id
            and timeline.position = said.position;

        delete from timeline
        using event
        where event.position > p_after and event.position <= p_upto
            and event.type = 'ProjectErased'
            and timeline.tenant_id = event.tenant_id
            and timeline.project_id = event.project_id
            and timeline.position < event.position;
    end if;
end
$$;

-- name: view
create view analytics.project_timeline with (security_invoker) as
select
    timeline.position, timeline.tenant_id, timeline.project_id, timeline.mode, timeline.item_id,
    timeline.kind, timeline.session_id, timeline.user_id, timeline.chat_mode, timeline.text,
    timeline.data, timeline.subtype, timeline.tokens_used, timeline.duration_ms, timeline.build_id,
    timeline.converted_from_session_id, build.status as build_status, build.version_id,
    build.preview_url, build.artifact_url, build.duration_ms as build_duration_ms,
    case
        when timeline.mode = 'plan' then 'planning'
        when build.status = 'succeeded' then 'deployed'
        when build.status = 'failed' then 'failed'
        else 'in_progress'
    end as timeline_status,
    timeline.recorded_at
from app.timeline
left join app.builds_as_they_are() as build
    on build.tenant_id = timeline.tenant_id and build.build_id = timeline.build_id
where timeline.is_visible;
comment on view analytics.project_timeline is
    'Everything a reader of a project sees, one row an item; order by position.';
comment on column analytics.project_timeline.position is 'Place in the one order of all events.';
comment on column analytics.project_timeline.tenant_id is 'Who the project belongs to.';
comment on column analytics.project_timeline.project_id is 'The project.';
comment on column analytics.project_timeline.mode is 'plan or build.';
comment on column analytics.project_timeline.item_id is
    'The message''s id; of a deployment the version''s.';
comment on column analytics.project_timeline.kind is
    'user_message, reply, system_message, build_reference or deployment.';
comment on column analytics.project_timeline.session_id is 'The session it was said in.';
comment on column analytics.project_timeline.user_id is 'Who said it; null for replies.';
comment on column analytics.project_timeline.chat_mode is
    'What a reply turned out to be (question, feature, fix, analysis, general); of a message, the '
    'client''s hint, or initial or build where it asks for a build.';
comment on column analytics.project_timeline.text is
    'What the user said; of a build_reference what its worker said first.';
comment on column analytics.project_timeline.data is
    'What was replied, by the contract of its chat_mode; or a template and its variables.';
comment on column analytics.project_timeline.subtype is 'Of a reply: success, partial, error.';
comment on column analytics.project_timeline.tokens_used is
    'Tokens of all kinds; null where the provider did not say.';
comment on column analytics.project_timeline.duration_ms is
    'Milliseconds from the message to the end of its reply.';
comment on column analytics.project_timeline.build_id is 'The build that the item is about.';
comment on column analytics.project_timeline.converted_from_session_id is
    'The session whose plan this message turned into a build.';
comment on column analytics.project_timeline.build_status is
    'queued, running, succeeded or failed: as the build is now.';
comment on column analytics.project_timeline.version_id is 'The version that the build became.';
comment on column analytics.project_timeline.preview_url is 'Where the version can be seen.';
comment on column analytics.project_timeline.artifact_url is 'Where the version can be fetched.';
comment on column analytics.project_timeline.build_duration_ms is
    'Milliseconds from queued to the build''s end.';
comment on column analytics.project_timeline.timeline_status is
    'planning, in_progress, deployed or failed.';
comment on column analytics.project_timeline.recorded_at is 'When it was appended.';

create view analytics.project_chat_with_builds with (security_invoker) as
select
    timeline.*,
    case
        when timeline.kind = 'build_reference' then (
            select jsonb_agg(to_jsonb(told) - 'tenant_id' - 'build_id' order by told.position)
            from app.build_events_as_they_are() as told
            where told.tenant_id = timeline.tenant_id and told.build_id = timeline.build_id
                and told.user_visible
        )
    end as build_events
from analytics.project_timeline as timeline;
comment on view analytics.project_chat_with_builds is
    'The timeline, oldest first by position, with what each build''s workers told its users.';
do $$
declare
    v_said record;
begin
    for v_said in
        select attname, col_description(attrelid, attnum) as words
        from pg_attribute
        where attrelid = 'analytics.project_timeline'::regclass and attnum > 0
    loop
        execute format(
            'comment on column analytics.project_chat_with_builds.%I is %L',
            v_said.attname, v_said.words
        );
    end loop;
end
$$;
comment on column analytics.project_chat_with_builds.build_events is
    'Of a build_reference: the events that users may see, as a JSON array in log order.';
grant select on analytics.project_timeline, analytics.project_chat_with_builds, app.timeline
    to throughline_analyst;

-- name: page
-- Newest first: by offset, or the rows before a position. `_after`: oldest first.
select
    position, mode, item_id, kind, is_visible, is_live, session_id, user_id, chat_mode, text, data,
    subtype, tokens_used, duration_ms, build_id, converted_from_session_id, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and position < %(before)s
    and (is_visible or (%(with_hidden)s and not is_live) or (%(with_live)s and is_live))
order by position desc
limit %(limit)s
offset %(offset)s

-- name: page_after
select
    position, mode, item_id, kind, is_visible, is_live, session_id, user_id, chat_mode, text, data,
    subtype, tokens_used, duration_ms, build_id, converted_from_session_id, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and position > %(after)s
    and (is_visible or (%(with_hidden)s and not is_live) or (%(with_live)s and is_live))
order by position
limit %(limit)s

-- name: page_of_plan
select
    position, mode, item_id, kind, is_visible, is_live, session_id, user_id, chat_mode, text, data,
    subtype, tokens_used, duration_ms, build_id, converted_from_session_id, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'plan'
    and position < %(before)s
    and (is_visible or (%(with_hidden)s and not is_live) or (%(with_live)s and is_live))
order by position desc
limit %(limit)s
offset %(offset)s

-- name: page_of_plan_after
select
    position, mode, item_id, kind, is_visible, is_live, session_id, user_id, chat_mode, text, data,
    subtype, tokens_used, duration_ms, build_id, converted_from_session_id, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'plan'
    and position > %(after)s
    and (is_visible or (%(with_hidden)s and not is_live) or (%(with_live)s and is_live))
order by position
limit %(limit)s

-- name: page_of_build
-- The mode stands in the text, so that the index of builds can be used.
select
    position, mode, item_id, kind, is_visible, is_live, session_id, user_id, chat_mode, text, data,
    subtype, tokens_used, duration_ms, build_id, converted_from_session_id, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'build'
    and position < %(before)s
    and (is_visible or (%(with_hidden)s and not is_live) or (%(with_live)s and is_live))
order by position desc
limit %(limit)s
offset %(offset)s

-- name: page_of_build_after
select
    position, mode, item_id, kind, is_visible, is_live, session_id, user_id, chat_mode, text, data,
    subtype, tokens_used, duration_ms, build_id, converted_from_session_id, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'build'
    and position > %(after)s
    and (is_visible or (%(with_hidden)s and not is_live) or (%(with_live)s and is_live))
order by position
limit %(limit)s

-- name: requests
-- The messages that asked for these builds.
select
    position, mode, item_id, kind, is_visible, is_live, session_id, user_id, chat_mode, text, data,
    subtype, tokens_used, duration_ms, build_id, converted_from_session_id, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and build_id = any (%(build_ids)s)
    and kind = 'user_message'
