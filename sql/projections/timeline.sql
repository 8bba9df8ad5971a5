-- The timeline of each project: one row for each event that readers see, in log order. Rows are
-- never changed, and removed only by erasure.
--
-- Three kinds of rows:
-- - `is_visible`: every reader sees the row.
-- - `is_live`: only readers of the live timeline see the row: the progress of a build or a run, a
--   lock, an erasure. A page shows the present state of a build or a run in its other rows.
-- - neither: a reader sees the row on request: a session was opened, renamed, ended ...
--
-- A row of a private session is seen by the user `private_to` alone, among the messages of that
-- session. The column is empty for all other rows, and only those are in the project's timeline.

-- name: table
create table timeline (
    position    bigint      not null,
    tenant_id   text        not null collate "C",
    project_id  text        not null collate "C",
    private_to  text        not null default '' collate "C",
    mode        text        not null collate "C",
    item_id     text        not null collate "C",
    kind        text        not null collate "C",
    is_visible  boolean     not null,
    is_live     boolean     not null,
    session_id  text        collate "C",
    user_id     text,
    chat_mode   text,
    in_reply_to text,
    locale      text,
    source      text,
    text        text,
    data        jsonb,
    subtype     text,
    tokens_used bigint,
    duration_ms bigint,
    first_text_ms  bigint,
    billed_seconds bigint,
    version_id  text,
    reason      text,
    warnings    jsonb,
    resets      integer,
    retries     integer,
    build_id    text        collate "C",
    converted_from_session_id text,
    recorded_at timestamptz not null,
    -- The position alone is unique. But with an index on the position alone, PostgreSQL would read
    -- the rows of all projects to find those of a quiet project, or the private rows of a project to
    -- find the others.
    primary key (tenant_id, project_id, private_to, position)
);
-- The messages of a session, and its erasure.
create index timeline_of_session on timeline (tenant_id, session_id, position)
where is_visible or kind = 'erasure';
create index timeline_page_of_builds on timeline (tenant_id, project_id, position)
where mode = 'build';
create index timeline_request_of_build on timeline (tenant_id, build_id)
where kind = 'user_message' and build_id is not null;
-- The figures of a span read the replies of that span alone.
create index timeline_replies on timeline (tenant_id, project_id, recorded_at)
where kind = 'reply';
grant select, insert, delete on timeline to throughline_service;

-- name: apply
create or replace function apply_timeline(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into timeline (
        position, tenant_id, project_id, private_to, mode, item_id, kind, is_visible, is_live,
        session_id, user_id, chat_mode, in_reply_to, locale, source, text, data, subtype,
        tokens_used, duration_ms, first_text_ms, billed_seconds, version_id, reason, warnings,
        resets, retries, build_id, converted_from_session_id, recorded_at
    )
    select
        event.position,
        event.tenant_id,
        event.project_id,
        case
            when event.stream_id like 'session-private-%'
                then app.private_to(event.tenant_id, event.stream_id)
            else ''
        end,
        case
            when event.type in ('UserMessagePosted', 'SystemMessagePosted')
                then coalesce(state.mode, 'plan')
            when is_of_build or shown.kind = 'lock' then 'build'
            else 'plan'
        end,
        case
            when event.type = 'VersionDeployed' then state.version_id
            when event.type = 'PromptVersionAdded' then state.prompt_version_id
            when is_of_run then state.run_id
            else coalesce(state.message_id, event.position::text)
        end,
        shown.kind,
        case
            when shown.kind in ('build_status', 'run_status', 'lock', 'erasure', 'session')
                then false
            else coalesce(state.visible, true)
        end,
        shown.kind in ('build_status', 'run_status', 'lock', 'erasure'),
        -- A run is no message of the session that it came from.
        case when not is_of_run then coalesce(state.session_id, state.source_session_id) end,
        state.user_id,
        case event.type
            when 'UserMessagePosted' then state.chat_mode
            when 'ReplyCompleted' then state.mode
            when 'ReplyFailed' then state.mode
        end,
        state.in_reply_to,
        coalesce(state.locale, case event.type when 'ReplyCompleted' then 'en' end),
        case shown.kind when 'assistant_message' then 'client' else state.source end,
        case
            when event.type in ('BuildReferenced', 'RunQueued') then state.title
            when event.type = 'PromptVersionAdded' then left(state.text, 200)
            when not is_of_run then state.text
        end,
        case event.type
            when 'ReplyCompleted' then state.data
            when 'SystemMessagePosted' then jsonb_build_object(
                'type', coalesce(state.type, 'message'),
                'template', state.template,
                'contractVersion', coalesce(state.contract_version, '1.0'),
                'variables', state.variables
            )
            when 'ReplyFailed' then jsonb_build_object('code', state.code)
            when 'MaterialAdded' then jsonb_build_object('kind', state.kind)
            -- The first report of progress in the development is what makes this event.
            when 'BuildReferenced' then jsonb_build_object(
                'phase', 'development', 'type', 'progress', 'title', state.title
            )
            when 'PromptVersionAdded' then jsonb_strip_nulls(jsonb_build_object(
                'promptId', state.prompt_id,
                'number', state.number,
                'name', state.name,
                'note', state.note,
                'sourceMessageId', state.source_message_id
            ))
            when 'SessionRenamed' then jsonb_build_object('event', event.type, 'name', state.name)
            when 'SessionModeChanged'
                then jsonb_build_object('event', event.type, 'mode', state.mode)
            when 'PlanSaved'
                then jsonb_build_object('event', event.type, 'messageId', state.message_id)
            when 'ProjectLocked' then jsonb_build_object('activeBuildId', state.build_id)
            when 'ProjectUnlocked' then jsonb_build_object('activeBuildId', null)
            when 'SessionDeleted' then jsonb_build_object('sessionId', state.session_id)
            when 'MaterialErased' then jsonb_build_object('messageId', state.message_id)
            when 'BuildErased' then jsonb_build_object('buildId', state.build_id)
            when 'RunErased' then jsonb_build_object('runId', state.run_id)
            when 'PromptErased' then jsonb_build_object('promptId', state.prompt_id)
            else case when shown.kind = 'session' then jsonb_build_object('event', event.type) end
        end,
        case event.type when 'ReplyFailed' then 'error' else state.subtype end,
        state.tokens_used,
        state.duration_ms,
        state.first_text_ms,
        case event.type when 'ReplyFailed' then 0 else state.billed_seconds end,
        case event.type when 'ReplyCompleted' then state.version_id end,
        case event.type when 'ReplyCompleted' then state.reason end,
        state.warnings,
        case when shown.kind = 'reply' then coalesce(state.resets, 0) end,
        case when shown.kind = 'reply' then coalesce(state.retries, 0) end,
        case
            when is_of_build or event.type in ('UserMessagePosted', 'SystemMessagePosted')
                then state.build_id
        end,
        state.converted_from_session_id,
        event.recorded_at
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        message_id text, session_id text, user_id text, visible boolean, chat_mode text, mode text,
        in_reply_to text, locale text, first_text_ms bigint, billed_seconds bigint,
        reason text, warnings jsonb, resets integer, retries integer,
        text text, data jsonb, template text, variables jsonb, code text, name text, subtype text,
        tokens_used bigint, duration_ms bigint, build_id text, converted_from_session_id text,
        type text, contract_version text, title text, version_id text, source text, kind text,
        run_id text, prompt_id text, prompt_version_id text, number integer, note text,
        source_message_id text, source_session_id text
    )
    cross join lateral (
        select case event.type
            when 'UserMessagePosted' then 'user_message'
            when 'ReplyCompleted' then 'reply'
            when 'ReplyFailed' then 'reply'
            when 'SystemMessagePosted' then 'system_message'
            when 'AssistantMessageAdded' then 'assistant_message'
            when 'MaterialAdded' then 'material'
            when 'BuildReferenced' then 'build_reference'
            when 'VersionDeployed' then 'deployment'
            when 'BuildClaimed' then 'build_status'
            when 'BuildSucceeded' then 'build_status'
            when 'BuildFailed' then 'build_status'
            when 'ProjectLocked' then 'lock'
            when 'ProjectUnlocked' then 'lock'
            when 'SessionDeleted' then 'erasure'
            when 'BuildErased' then 'erasure'
            when 'MaterialErased' then 'erasure'
            when 'RunQueued' then 'run'
            when 'RunClaimed' then 'run_status'
            when 'RunSucceeded' then 'run_status'
            when 'RunFailed' then 'run_status'
            when 'RunErased' then 'erasure'
            when 'PromptErased' then 'erasure'
            when 'PromptVersionAdded' then 'prompt_version'
            when 'PlanSaved' then 'session'
            when 'SessionOpened' then 'session'
            when 'SessionRenamed' then 'session'
            when 'SessionModeChanged' then 'session'
            when 'SessionConverted' then 'session'
            when 'SessionArchived' then 'session'
            when 'SessionRestored' then 'session'
            when 'SessionExpired' then 'session'
            when 'SessionResumed' then 'session'
        end as kind
        -- Without an offset PostgreSQL would copy this expression to each place that uses it, and start
        -- twenty copies with each batch.
        offset 0
    ) as shown
    cross join lateral (
        select
            shown.kind in ('build_reference', 'deployment', 'build_status')
            or event.type = 'BuildErased' as is_of_build,
            shown.kind in ('run', 'run_status') or event.type = 'RunErased' as is_of_run
        offset 0
    ) as about
    where event.position > p_after and event.position <= p_upto
        and shown.kind is not null
    order by event.position;

    -- An erasure removes the rows of all earlier events of its stream, or that of one material; the
    -- row of the erasure itself stays, for readers of the live timeline. The erasure of a project
    -- removes all its rows. Most ranges have no erasure.
    if exists (
        select from event
        where event.position > p_after and event.position <= p_upto
            and event.type in (
                'SessionDeleted', 'MaterialErased', 'BuildErased', 'RunErased',
                'PromptErasureRequested', 'PromptErased', 'ProjectErased'
            )
    ) then
        delete from timeline
        using event as erased
        join event as earlier
            on earlier.tenant_id = erased.tenant_id and earlier.stream_id = erased.stream_id
                and earlier.version < erased.version
        where erased.position > p_after and erased.position <= p_upto
            and erased.type in (
                'SessionDeleted', 'MaterialErased', 'BuildErased', 'RunErased',
                'PromptErasureRequested', 'PromptErased'
            )
            and (
                erased.type = 'PromptErasureRequested'
                or app.erases(erased.type, erased.state, earlier.type, earlier.state)
            )
            and timeline.tenant_id = earlier.tenant_id
            and timeline.project_id = earlier.project_id
            and timeline.private_to = app.private_to(earlier.tenant_id, earlier.stream_id)
            and timeline.position = earlier.position;

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
    timeline.kind, timeline.session_id, timeline.source, timeline.user_id, timeline.chat_mode, timeline.in_reply_to,
    timeline.locale, lower(substring(timeline.locale from '^[A-Za-z]+')) as language,
    timeline.text, timeline.data, timeline.subtype, timeline.tokens_used, timeline.duration_ms,
    timeline.first_text_ms, timeline.billed_seconds, timeline.reason, timeline.warnings,
    timeline.resets, timeline.retries, timeline.build_id, timeline.converted_from_session_id,
    build.status as build_status, coalesce(build.version_id, timeline.version_id) as version_id,
    build.preview_url, build.artifact_url, build.duration_ms as build_duration_ms,
    case
        when timeline.kind = 'run' and run.status in ('succeeded', 'failed') then run.status
        when timeline.kind = 'run' then 'in_progress'
        when timeline.mode = 'plan' and timeline.subtype = 'error' then 'failed'
        when timeline.mode = 'plan' then 'planning'
        when build.status = 'succeeded' then 'deployed'
        when build.status = 'failed' then 'failed'
        when timeline.kind = 'deployment' then 'deployed'
        else 'in_progress'
    end as timeline_status,
    timeline.recorded_at
from app.timeline
left join app.builds_as_they_are() as build
    on build.tenant_id = timeline.tenant_id and build.build_id = timeline.build_id
left join app.runs_as_they_are() as run
    on timeline.kind = 'run' and run.tenant_id = timeline.tenant_id
        and run.run_id = timeline.item_id
where timeline.is_visible and timeline.private_to = '';
comment on view analytics.project_timeline is
    'What readers of a project see, one row an item, without private sessions; order by position.';
comment on column analytics.project_timeline.position is 'The position of the event in the log.';
comment on column analytics.project_timeline.tenant_id is 'The tenant of the project.';
comment on column analytics.project_timeline.project_id is 'The project.';
comment on column analytics.project_timeline.mode is 'plan or build.';
comment on column analytics.project_timeline.item_id is
    'The id of the message or reply; for a deployment the id of the version, for a run its own.';
comment on column analytics.project_timeline.kind is
    'user_message, reply, system_message, assistant_message, material, prompt_version, '
    'build_reference, deployment or run.';
comment on column analytics.project_timeline.session_id is
    'The session of the item; null for a run, whose session is in project_runs.';
comment on column analytics.project_timeline.source is
    'client for a message that a client appended without asking the model; else null.';
comment on column analytics.project_timeline.user_id is
    'The user who wrote the message or asked for the run; null for other kinds.';
comment on column analytics.project_timeline.chat_mode is
    'For a reply the mode that the model chose: question, feature, fix, analysis or general; for a '
    'reply that failed before that, the mode that the client asked for, or null. For a message '
    'the mode that the client asked for; initial or build if the message asks for a build.';
comment on column analytics.project_timeline.in_reply_to is
    'For a reply: the item_id of the message that it answers.';
comment on column analytics.project_timeline.locale is
    'For a message the locale that the client gave; for a reply that of its message.';
comment on column analytics.project_timeline.language is
    'The language of the locale, in lower case: ar for ar-EG.';
comment on column analytics.project_timeline.text is
    'The text of a message; for a build_reference the title of the worker''s first report; for a '
    'run its title; for a prompt_version the first 200 characters of the text.';
comment on column analytics.project_timeline.data is
    'The JSON of a reply, by the contract of its chat_mode; for a system_message its template and '
    'variables; for a build_reference the phase, type and title of the report that it shows.';
comment on column analytics.project_timeline.subtype is 'For a reply: success, partial or error.';
comment on column analytics.project_timeline.tokens_used is
    'Tokens of all kinds; null if the provider did not report them.';
comment on column analytics.project_timeline.duration_ms is
    'For a reply: milliseconds from the user''s message to the end of the reply.';
comment on column analytics.project_timeline.first_text_ms is
    'For a reply: milliseconds from the user''s message to the first text that readers saw; null if '
    'they saw none, or the time is not known.';
comment on column analytics.project_timeline.billed_seconds is
    'For a reply: the AI seconds that were billed; 0 for a reply that failed.';
comment on column analytics.project_timeline.reason is
    'For a reply that was cut off: why.';
comment on column analytics.project_timeline.warnings is
    'For a reply with content: an array of warnings, such as wrong_language.';
comment on column analytics.project_timeline.resets is
    'For a reply: how often its readers had to discard what they had seen.';
comment on column analytics.project_timeline.retries is
    'For a reply: how often the provider was asked again after an error.';
comment on column analytics.project_timeline.build_id is 'The build of the item.';
comment on column analytics.project_timeline.converted_from_session_id is
    'For a message that asks for the build of a plan: the session with the plan.';
comment on column analytics.project_timeline.build_status is
    'The present status of the build: queued, running, succeeded or failed.';
comment on column analytics.project_timeline.version_id is
    'The version of the build; for a reply the version of the project that it speaks of.';
comment on column analytics.project_timeline.preview_url is
    'The URL where people can look at the version.';
comment on column analytics.project_timeline.artifact_url is 'The URL of the version''s files.';
comment on column analytics.project_timeline.build_duration_ms is
    'Milliseconds from the queueing of the build to its end.';
comment on column analytics.project_timeline.timeline_status is
    'planning, in_progress, deployed, failed (a build, a reply or a run) or succeeded (a run), as '
    'the item of the API says.';
comment on column analytics.project_timeline.recorded_at is 'The time when the event was appended.';

create view analytics.project_chat_with_builds with (security_invoker) as
select
    timeline.*,
    case
        when timeline.kind = 'build_reference' then (
            select jsonb_agg(to_jsonb(report) - 'tenant_id' - 'build_id' order by report.position)
            from app.build_events_as_they_are() as report
            where report.tenant_id = timeline.tenant_id and report.build_id = timeline.build_id
                and report.user_visible
        )
    end as build_events
from analytics.project_timeline as timeline;
comment on view analytics.project_chat_with_builds is
    'The timeline, with the reports of each build that users may see; order by position.';
do $$
declare
    v_column record;
begin
    for v_column in
        select attname, col_description(attrelid, attnum) as comment
        from pg_attribute
        where attrelid = 'analytics.project_timeline'::regclass and attnum > 0
    loop
        execute format(
            'comment on column analytics.project_chat_with_builds.%I is %L',
            v_column.attname, v_column.comment
        );
    end loop;
end
$$;
comment on column analytics.project_chat_with_builds.build_events is
    'For a build_reference: the reports that users may see, as a JSON array in log order.';
grant select on analytics.project_timeline, analytics.project_chat_with_builds, app.timeline
    to throughline_analyst;

-- part: columns
position, mode, item_id, kind, is_visible, is_live, session_id, user_id, chat_mode, in_reply_to,
    locale, source, text, data, subtype, tokens_used, duration_ms, first_text_ms, billed_seconds,
    reason, version_id, build_id, converted_from_session_id, recorded_at,
    app.cursor_at(position) as cursor,
    (
        select sessions.mode
        from app.sessions
        where sessions.tenant_id = timeline.tenant_id
            and sessions.session_id = timeline.session_id
    ) as session_mode

-- part: of_project
tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and private_to = ''
    and (is_visible or (%(with_hidden)s and not is_live) or (%(with_live)s and is_live))

-- name: page
-- Newest first: the rows before a position, of one mode or of all modes.
select {columns}
from app.timeline
where {of_project}
    and (%(mode)s::text is null or mode = %(mode)s)
    and position < %(before)s
order by position desc
limit %(limit)s
offset %(offset)s

-- name: page_after
-- Oldest first: the rows after a position, of one mode or of all modes.
select {columns}
from app.timeline
where {of_project}
    and (%(mode)s::text is null or mode = %(mode)s)
    and position > %(after)s
order by position
limit %(limit)s

-- name: page_of_build
-- The same for the mode `build`. The statement names the mode, because PostgreSQL must find it
-- there to use the index timeline_page_of_builds. Few rows have this mode.
select {columns}
from app.timeline
where {of_project}
    and mode = 'build'
    and position < %(before)s
order by position desc
limit %(limit)s
offset %(offset)s

-- name: page_of_build_after
select {columns}
from app.timeline
where {of_project}
    and mode = 'build'
    and position > %(after)s
order by position
limit %(limit)s

-- name: requests
-- The messages that asked for these builds.
select {columns}
from app.timeline
where tenant_id = %(tenant_id)s
    and build_id = any (%(build_ids)s)
    and kind = 'user_message'

-- name: messages_before
-- Newest first: what was said in a session before a position. A fork has the messages of the sessions
-- that it left, each of them up to the position `upto`. `with_live` adds the erasure of the session.
-- The caller has checked that the reader may see the session.
select said.*
from unnest(%(session_ids)s::text[], %(uptos)s::bigint[]) as part (session_id, upto)
cross join lateral (
    select {columns}
    from app.timeline
    where tenant_id = %(tenant_id)s
        and session_id = part.session_id
        and position <= part.upto
        and position < %(before)s
        and (is_visible or (%(with_live)s and kind = 'erasure'))
    order by position desc
    limit %(limit)s
) as said
order by said.position desc
limit %(limit)s

-- name: messages_after
-- Oldest first: the same after a position.
select said.*
from unnest(%(session_ids)s::text[], %(uptos)s::bigint[]) as part (session_id, upto)
cross join lateral (
    select {columns}
    from app.timeline
    where tenant_id = %(tenant_id)s
        and session_id = part.session_id
        and position <= part.upto
        and position > %(after)s
        and position < %(before)s
        and (is_visible or (%(with_live)s and kind = 'erasure'))
    order by position
    limit %(limit)s
) as said
order by said.position
limit %(limit)s
