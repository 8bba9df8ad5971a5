-- The unified timeline of each project: one row for each event that a reader sees, in log order.
-- Rows are only ever added. What happened to a session itself (opened, renamed, ended) is a row too,
-- but a hidden one: it is shown on request.

-- name: table
create table timeline (
    position    bigint      not null,
    tenant_id   text        not null collate "C",
    project_id  text        not null collate "C",
    mode        text        not null collate "C",
    item_id     text        not null collate "C",
    kind        text        not null collate "C",
    is_visible  boolean     not null,
    session_id  text        not null collate "C",
    user_id     text,
    chat_mode   text,
    text        text,
    data        jsonb,
    subtype     text,
    tokens_used integer,
    duration_ms integer,
    recorded_at timestamptz not null,
    -- Positions are unique by themselves. But an index on them alone would tempt the planner to look
    -- for a quiet project's rows among everybody's.
    primary key (tenant_id, project_id, position)
);
create index timeline_page_of_builds on timeline (tenant_id, project_id, position)
where mode = 'build';
grant select, insert on timeline to throughline_service;

-- name: apply
create or replace function apply_timeline(p_after bigint, p_upto bigint) returns void
-- Its plan is made when the log is young and kept while it grows: never by reading all of it.
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into timeline (
        position, tenant_id, project_id, mode, item_id, kind, is_visible, session_id, user_id,
        chat_mode, text, data, subtype, tokens_used, duration_ms, recorded_at
    )
    select
        event.position,
        event.tenant_id,
        event.project_id,
        'plan',
        coalesce(state.message_id, event.position::text),
        case event.type
            when 'UserMessagePosted' then 'user_message'
            when 'ReplyCompleted' then 'reply'
            when 'ReplyFailed' then 'reply'
            when 'SystemMessagePosted' then 'system_message'
            else 'session'
        end,
        coalesce(state.visible, state.message_id is not null),
        state.session_id,
        state.user_id,
        case event.type
            when 'UserMessagePosted' then state.chat_mode
            when 'ReplyCompleted' then state.mode
        end,
        state.text,
        case event.type
            when 'ReplyCompleted' then state.data
            when 'SystemMessagePosted' then jsonb_build_object(
                'template', state.template, 'variables', state.variables
            )
            when 'ReplyFailed' then jsonb_build_object('code', state.code)
            when 'SessionRenamed' then jsonb_build_object('event', event.type, 'name', state.name)
            when 'UserMessagePosted' then null
            else jsonb_build_object('event', event.type)
        end,
        case event.type when 'ReplyFailed' then 'error' else state.subtype end,
        state.tokens_used,
        state.duration_ms,
        event.recorded_at
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        message_id text, session_id text, user_id text, visible boolean, chat_mode text, mode text,
        text text, data jsonb, template text, variables jsonb, code text, name text, subtype text,
        tokens_used integer, duration_ms integer
    )
    where event.position > p_after and event.position <= p_upto
        and event.type in (
            'UserMessagePosted', 'ReplyCompleted', 'ReplyFailed', 'SystemMessagePosted',
            'SessionOpened', 'SessionRenamed', 'SessionModeChanged', 'SessionConverted',
            'SessionArchived', 'SessionExpired', 'SessionDeleted'
        )
    order by event.position;
end
$$;

-- name: view
create view analytics.project_timeline with (security_invoker) as
select
    position, tenant_id, project_id, mode, item_id, kind, session_id, user_id, chat_mode,
    text, data, subtype, tokens_used, duration_ms, recorded_at
from app.timeline
where is_visible;
comment on view analytics.project_timeline is
    'Everything a reader of a project sees, one row an item; order by position.';
comment on column analytics.project_timeline.position is 'Place in the one order of all events.';
comment on column analytics.project_timeline.tenant_id is 'Who the project belongs to.';
comment on column analytics.project_timeline.project_id is 'The project.';
comment on column analytics.project_timeline.mode is 'plan or build.';
comment on column analytics.project_timeline.item_id is 'The message''s id.';
comment on column analytics.project_timeline.kind is
    'user_message, reply, or system_message.';
comment on column analytics.project_timeline.session_id is 'The session it was said in.';
comment on column analytics.project_timeline.user_id is 'Who said it; null for replies.';
comment on column analytics.project_timeline.chat_mode is
    'What a reply turned out to be (question, feature, fix, analysis, general); of a message, the '
    'client''s hint.';
comment on column analytics.project_timeline.text is 'What the user said.';
comment on column analytics.project_timeline.data is
    'What was replied, by the contract of its chat_mode; or a template and its variables.';
comment on column analytics.project_timeline.subtype is 'Of a reply: success, partial, error.';
comment on column analytics.project_timeline.tokens_used is
    'Tokens of all kinds; null where the provider did not say.';
comment on column analytics.project_timeline.duration_ms is
    'Milliseconds from the message to the end of its reply.';
comment on column analytics.project_timeline.recorded_at is 'When it was appended.';
grant select on analytics.project_timeline, app.timeline to throughline_analyst;

-- name: page
-- Newest first: by offset, or the rows before a position. `_after`: oldest first.
select
    position, mode, item_id, kind, is_visible, session_id, user_id, chat_mode,
    text, data, subtype, tokens_used, duration_ms, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and position < %(before)s
    and (%(with_hidden)s or is_visible)
order by position desc
limit %(limit)s
offset %(offset)s

-- name: page_after
select
    position, mode, item_id, kind, is_visible, session_id, user_id, chat_mode,
    text, data, subtype, tokens_used, duration_ms, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and position > %(after)s
    and (%(with_hidden)s or is_visible)
order by position
limit %(limit)s

-- name: page_of_plan
select
    position, mode, item_id, kind, is_visible, session_id, user_id, chat_mode,
    text, data, subtype, tokens_used, duration_ms, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'plan'
    and position < %(before)s
    and (%(with_hidden)s or is_visible)
order by position desc
limit %(limit)s
offset %(offset)s

-- name: page_of_plan_after
select
    position, mode, item_id, kind, is_visible, session_id, user_id, chat_mode,
    text, data, subtype, tokens_used, duration_ms, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'plan'
    and position > %(after)s
    and (%(with_hidden)s or is_visible)
order by position
limit %(limit)s

-- name: page_of_build
-- The mode stands in the text, so that the index of builds can be used.
select
    position, mode, item_id, kind, is_visible, session_id, user_id, chat_mode,
    text, data, subtype, tokens_used, duration_ms, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'build'
    and position < %(before)s
    and (%(with_hidden)s or is_visible)
order by position desc
limit %(limit)s
offset %(offset)s

-- name: page_of_build_after
select
    position, mode, item_id, kind, is_visible, session_id, user_id, chat_mode,
    text, data, subtype, tokens_used, duration_ms, recorded_at
from app.timeline
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and mode = 'build'
    and position > %(after)s
    and (%(with_hidden)s or is_visible)
order by position
limit %(limit)s
