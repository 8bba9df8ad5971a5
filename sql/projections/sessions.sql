-- The sessions, with their messages and their billing. Seconds, tokens and money come only from
-- settlements, so they equal the sums of the ledger.
--
-- `first_words` is what a session is called until a user names it: the beginning of its first
-- message. It is empty once the session is erased. `active_position` is the position of the last
-- message or reply: lists are ordered by it, and a change of the name does not move a session.

-- name: table
create table sessions (
    tenant_id      text          not null collate "C",
    session_id     text          not null collate "C",
    project_id     text          not null collate "C",
    user_id        text          not null collate "C",
    private_to     text          not null default '' collate "C",
    name           text          not null default '',
    description    text          not null default '',
    tags           text[]        not null default '{}',
    is_starred     boolean       not null default false,
    mode           text          not null,
    status         text          not null default 'active',
    context        jsonb         not null default '{}',
    model          text,
    max_tokens     integer,
    settings       jsonb,
    prompt_id      text          collate "C",
    prompt_version_id text       collate "C",
    prompt_number  integer,
    answers        jsonb,
    forked_from_session_id text  collate "C",
    forked_from_message_id text,
    forked_at      bigint,
    first_words    text          not null default '',
    message_count  integer       not null default 0,
    item_count     integer       not null default 0,
    tokens_used    bigint        not null default 0,
    ai_seconds     bigint        not null default 0,
    cost_usd       numeric(18,6) not null default 0,
    build_id       text,
    opened_at      timestamptz   not null,
    last_active_at timestamptz   not null,
    active_position bigint       not null,
    active_block   bigint        not null default 0,
    last_position  bigint        not null,
    primary key (tenant_id, session_id)
) with (fillfactor = 70);
-- The tenant is not the first column. Otherwise PostgreSQL would use this index in place of the
-- primary key while the table is small, and keep that plan: each update would read half of the
-- tenant's sessions. The service looks for the session of a user's next message by mode and status:
-- a user may have many sessions of other modes in a project, and many sessions that are not active.
create index sessions_of_user on sessions (user_id, project_id, tenant_id, mode, status);
-- Lists, the newest first. An index on the position itself would change with every message, and an
-- update that changes an index writes all indexes of the row anew. The block changes once for 256
-- positions of the log at most. A list sorts the sessions of a block, which are 256 at most.
create index sessions_recent on sessions (project_id, tenant_id, active_block);
create index sessions_recent_of_user on sessions (user_id, tenant_id, active_block);
-- The sessions made of a prompt, and of a version. Hardly any session changes its prompt.
create index sessions_of_prompt on sessions (prompt_id, prompt_version_id, user_id, tenant_id)
where prompt_id is not null;
-- The columns of this index hardly ever change. So an update of a session does not touch the index,
-- unless it changes the status. The mode comes first, because sessions of most modes stay active, and
-- the search is for sessions of the few modes that expire.
create index sessions_active on sessions (mode, opened_at) where status = 'active';
grant select, insert, update on sessions to throughline_service;

-- name: apply
create or replace function apply_sessions(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into sessions (
        tenant_id, session_id, project_id, user_id, private_to, name, mode, context,
        forked_from_session_id, forked_from_message_id, forked_at, opened_at, last_active_at,
        active_position, active_block, last_position
    )
    select
        event.tenant_id, state.session_id, state.project_id, state.user_id,
        case
            when event.stream_id like 'session-private-%'
                then app.private_to(event.tenant_id, event.stream_id)
            else ''
        end,
        coalesce(state.name, ''),
        state.mode,
        jsonb_strip_nulls(jsonb_build_object(
            'runId', state.run_id,
            'stepId', state.step_id,
            'candidateId', state.candidate_id,
            'promptId', state.prompt_id,
            'promptVersionId', state.prompt_version_id,
            'versionId', state.version_id,
            'buildId', state.build_id
        )),
        state.forked_from_session_id,
        state.forked_from_message_id,
        (
            select parent.position
            from app.event as parent
            where parent.tenant_id = event.tenant_id
                and parent.stream_id = 'session-' || state.forked_from_session_id
                and parent.version = state.forked_from_version
                and parent.position < event.position
        ),
        event.recorded_at, event.recorded_at, event.position, event.position / 256, event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        session_id text, project_id text, user_id text, mode text, name text, run_id text,
        step_id text, candidate_id text, prompt_id text, prompt_version_id text, version_id text,
        build_id text, forked_from_session_id text, forked_from_message_id text,
        forked_from_version integer
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'SessionOpened';

    -- Messages and replies are in the stream of their session, so the stream's id gives the
    -- session, and their JSON need not be read. Billing is in the stream of the user's account.
    -- Only the first message of a session is read for its text.
    update sessions
    set
        first_words = case
            when sessions.first_words <> '' or change.message_count = 0 then sessions.first_words
            else coalesce(
                (
                    select app.beginning(state.text, 50)
                    from app.event
                    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
                        text text
                    )
                    where event.tenant_id = sessions.tenant_id
                        and event.stream_id = 'session-' || sessions.session_id
                        and event.position <= p_upto
                        and event.type in ('UserMessagePosted', 'AssistantMessageAdded')
                        and state.text ~ '[^ \t\n\r\f\v]'
                    order by event.version
                    limit 1
                ),
                ''
            )
        end,
        message_count = sessions.message_count + change.message_count,
        tokens_used = sessions.tokens_used + change.tokens_used,
        ai_seconds = sessions.ai_seconds + change.ai_seconds,
        cost_usd = sessions.cost_usd + change.cost_usd,
        item_count = sessions.item_count + change.item_count,
        last_active_at = greatest(sessions.last_active_at, change.last_active_at),
        active_position = coalesce(change.active_position, sessions.active_position),
        active_block = coalesce(change.active_position / 256, sessions.active_block),
        last_position = change.last_position
    from (
        select
            tenant_id,
            session_id,
            max(position) as last_position,
            max(position) filter (where active_at is not null) as active_position,
            max(active_at) as last_active_at,
            sum(messages) as message_count,
            sum(items) as item_count,
            sum(tokens) as tokens_used,
            sum(seconds) as ai_seconds,
            sum(cost_usd) as cost_usd
        from (
            select
                tenant_id, substr(stream_id, length('session-') + 1) as session_id, position,
                recorded_at as active_at,
                (type in ('UserMessagePosted', 'AssistantMessageAdded'))::integer as messages,
                (type <> 'SessionRestored')::integer as items,
                0::bigint as tokens, 0 as seconds, 0::numeric as cost_usd
            from event
            where position > p_after and position <= p_upto
                and type in (
                    'UserMessagePosted', 'AssistantMessageAdded', 'ReplyCompleted', 'ReplyFailed',
                    'SessionRestored'
                )
            union all
            select
                event.tenant_id, state.session_id, event.position,
                null, 0, 0,
                coalesce(state.input_tokens, 0) + coalesce(state.output_tokens, 0)
                + coalesce(state.cache_read_tokens, 0) + coalesce(state.cache_write_tokens, 0),
                state.seconds, coalesce(state.cost_usd, 0)
            from event
            cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
                session_id text, seconds integer, cost_usd numeric, input_tokens bigint,
                output_tokens bigint, cache_read_tokens bigint, cache_write_tokens bigint
            )
            where event.position > p_after and event.position <= p_upto
                and event.type = 'TimeConsumed'
        ) as event_change
        group by tenant_id, session_id
    ) as change
    where sessions.tenant_id = change.tenant_id and sessions.session_id = change.session_id;

    -- A session can change several times in the range; the last change of each kind counts. Nothing
    -- that people wrote stays of an erased session.
    update sessions
    set
        name = case
            when change.status = 'deleted' then ''
            else coalesce(change.name, sessions.name)
        end,
        description = case
            when change.status = 'deleted' then ''
            else coalesce(change.description, sessions.description)
        end,
        tags = case
            when change.status = 'deleted' then '{}'
            when change.tags is null then sessions.tags
            else array(select jsonb_array_elements_text(change.tags))
        end,
        first_words = case when change.status = 'deleted' then '' else sessions.first_words end,
        is_starred = coalesce(change.star = 'SessionStarred', sessions.is_starred),
        mode = coalesce(change.mode, sessions.mode),
        model = case when change.is_instructed then change.model else sessions.model end,
        max_tokens = case
            when change.is_instructed then change.max_tokens
            else sessions.max_tokens
        end,
        settings = case
            when change.status = 'deleted' then null
            when change.is_instructed then change.settings
            else sessions.settings
        end,
        prompt_id = case
            when change.is_instructed then change.prompt_id
            else sessions.prompt_id
        end,
        prompt_version_id = case
            when change.is_instructed then change.prompt_version_id
            else sessions.prompt_version_id
        end,
        prompt_number = case
            when change.is_instructed then change.prompt_number
            else sessions.prompt_number
        end,
        answers = case
            when change.status = 'deleted' then null
            when change.is_instructed then change.answers
            else sessions.answers
        end,
        status = case
            when change.status <> 'restored' then change.status
            when change.status is null then sessions.status
            when coalesce(change.build_id, sessions.build_id) is null then 'active'
            else 'converted'
        end,
        build_id = coalesce(change.build_id, sessions.build_id),
        last_position = greatest(sessions.last_position, change.last_position)
    from (
        select
            event.tenant_id,
            state.session_id,
            max(event.position) as last_position,
            (array_agg(state.name order by event.position desc) filter (
                where event.type = 'SessionRenamed'
            ))[1] as name,
            (array_agg(state.description order by event.position desc) filter (
                where event.type = 'SessionDescribed'
            ))[1] as description,
            (array_agg(state.tags order by event.position desc) filter (
                where event.type = 'SessionTagged'
            ))[1] as tags,
            (array_agg(event.type order by event.position desc) filter (
                where event.type in ('SessionStarred', 'SessionUnstarred')
            ))[1] as star,
            (array_agg(state.mode order by event.position desc) filter (
                where event.type = 'SessionModeChanged'
            ))[1] as mode,
            bool_or(event.type = 'SessionInstructed') as is_instructed,
            (array_agg(state.model order by event.position desc) filter (
                where event.type = 'SessionInstructed'
            ))[1] as model,
            (array_agg(state.max_tokens order by event.position desc) filter (
                where event.type = 'SessionInstructed'
            ))[1] as max_tokens,
            (array_agg(state.settings order by event.position desc) filter (
                where event.type = 'SessionInstructed'
            ))[1] as settings,
            (array_agg(state.prompt_id order by event.position desc) filter (
                where event.type = 'SessionInstructed'
            ))[1] as prompt_id,
            (array_agg(state.prompt_version_id order by event.position desc) filter (
                where event.type = 'SessionInstructed'
            ))[1] as prompt_version_id,
            (array_agg(state.prompt_number order by event.position desc) filter (
                where event.type = 'SessionInstructed'
            ))[1] as prompt_number,
            (array_agg(state.answers order by event.position desc) filter (
                where event.type = 'SessionInstructed'
            ))[1] as answers,
            (array_agg(
                case event.type
                    when 'SessionConverted' then 'converted'
                    when 'SessionArchived' then 'archived'
                    when 'SessionRestored' then 'restored'
                    when 'SessionExpired' then 'expired'
                    when 'SessionResumed' then 'active'
                    when 'SessionDeleted' then 'deleted'
                end
                order by event.position desc
            ) filter (
                where event.type in (
                    'SessionConverted', 'SessionArchived', 'SessionRestored', 'SessionExpired',
                    'SessionResumed', 'SessionDeleted'
                )
            ))[1] as status,
            (array_agg(state.build_id order by event.position desc) filter (
                where event.type = 'SessionConverted'
            ))[1] as build_id
        from event
        cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
            session_id text, name text, description text, tags jsonb, mode text, model text,
            max_tokens integer, settings jsonb, prompt_id text, prompt_version_id text,
            prompt_number integer, answers jsonb, build_id text
        )
        where event.position > p_after and event.position <= p_upto
            and event.type in (
                'SessionRenamed', 'SessionDescribed', 'SessionTagged', 'SessionStarred',
                'SessionUnstarred', 'SessionModeChanged', 'SessionInstructed', 'SessionConverted',
                'SessionArchived', 'SessionRestored', 'SessionExpired', 'SessionResumed',
                'SessionDeleted'
            )
        group by event.tenant_id, state.session_id
    ) as change
    where sessions.tenant_id = change.tenant_id and sessions.session_id = change.session_id;
end
$$;

-- name: view
create view analytics.project_chat_plan_sessions with (security_invoker) as
select
    tenant_id, session_id, project_id, user_id, private_to <> '' as is_private,
    case private_to when '' then name else '' end as name, mode, status, is_starred, context,
    model, forked_from_session_id, message_count, item_count, tokens_used, ai_seconds, cost_usd,
    build_id, opened_at, last_active_at
from app.sessions;
comment on view analytics.project_chat_plan_sessions is
    'The sessions of all modes with their billing, one row a session.';
comment on column analytics.project_chat_plan_sessions.is_private is
    'Whether only the session''s own user can see the session.';
comment on column analytics.project_chat_plan_sessions.is_starred is
    'Whether the user has marked the session.';
comment on column analytics.project_chat_plan_sessions.context is
    'The ids of what the session is about, as JSON: runId, promptId and others.';
comment on column analytics.project_chat_plan_sessions.model is
    'The model that the session names; null where the service''s own is used.';
comment on column analytics.project_chat_plan_sessions.forked_from_session_id is
    'For a fork: the session that it left.';
comment on column analytics.project_chat_plan_sessions.item_count is
    'The number of messages and replies.';
comment on column analytics.project_chat_plan_sessions.tenant_id is 'The tenant of the session.';
comment on column analytics.project_chat_plan_sessions.session_id is 'The session.';
comment on column analytics.project_chat_plan_sessions.project_id is 'The project of the session.';
comment on column analytics.project_chat_plan_sessions.user_id is 'The user of the session.';
comment on column analytics.project_chat_plan_sessions.name is
    'The name; empty until a user gives one, and for a private session.';
comment on column analytics.project_chat_plan_sessions.mode is
    'What the session is for: plan, setup, analysis, what_if, idea, run_feedback, prompt or build.';
comment on column analytics.project_chat_plan_sessions.status is
    'active, converted, archived, expired, deleted. An expired session takes messages again when a '
    'message names it.';
comment on column analytics.project_chat_plan_sessions.message_count is
    'The number of the user''s messages, and of those that a client appended.';
comment on column analytics.project_chat_plan_sessions.tokens_used is
    'Tokens of all kinds, as far as the provider reported them.';
comment on column analytics.project_chat_plan_sessions.ai_seconds is 'Billed AI seconds.';
comment on column analytics.project_chat_plan_sessions.cost_usd is
    'The cost in USD at the provider''s prices, as far as it is known.';
comment on column analytics.project_chat_plan_sessions.build_id is
    'The last build of the session''s plan; null if there is none.';
comment on column analytics.project_chat_plan_sessions.opened_at is
    'The time when the session began.';
comment on column analytics.project_chat_plan_sessions.last_active_at is
    'The time of the last message or reply.';
grant select on analytics.project_chat_plan_sessions, app.sessions to throughline_analyst;

create view analytics.prompt_runs_with_details with (security_invoker) as
select
    sessions.tenant_id, sessions.project_id, sessions.session_id as id, sessions.user_id,
    sessions.message_count, sessions.is_starred, sessions.last_active_at as last_message_at,
    sessions.opened_at as created_at, prompt.name as prompt_name, sessions.prompt_id,
    sessions.prompt_version_id, sessions.prompt_number, sessions.model, sessions.tokens_used,
    sessions.ai_seconds, sessions.cost_usd
from app.sessions
join app.prompts_as_they_are() as prompt
    on prompt.tenant_id = sessions.tenant_id and prompt.prompt_id = sessions.prompt_id
where sessions.status = 'active';
comment on view analytics.prompt_runs_with_details is
    'The active sessions that are made of a prompt, one row a session. Their names and messages are '
    'private, so they are not here.';
comment on column analytics.prompt_runs_with_details.tenant_id is 'The tenant of the project.';
comment on column analytics.prompt_runs_with_details.project_id is 'The project.';
comment on column analytics.prompt_runs_with_details.id is 'The session.';
comment on column analytics.prompt_runs_with_details.user_id is 'The user of the session.';
comment on column analytics.prompt_runs_with_details.message_count is
    'The number of the user''s messages, and of those that a client appended.';
comment on column analytics.prompt_runs_with_details.is_starred is
    'Whether the user has marked the session.';
comment on column analytics.prompt_runs_with_details.last_message_at is
    'The time of the last message or reply.';
comment on column analytics.prompt_runs_with_details.created_at is
    'The time when the session began.';
comment on column analytics.prompt_runs_with_details.prompt_name is
    'The present name of the prompt.';
comment on column analytics.prompt_runs_with_details.prompt_id is 'The prompt.';
comment on column analytics.prompt_runs_with_details.prompt_version_id is
    'The version of the prompt that the session uses now.';
comment on column analytics.prompt_runs_with_details.prompt_number is 'The number of that version.';
comment on column analytics.prompt_runs_with_details.model is
    'The model that the session asks for; null for the service''s own.';
comment on column analytics.prompt_runs_with_details.tokens_used is
    'Tokens of all kinds, as far as the provider reported them.';
comment on column analytics.prompt_runs_with_details.ai_seconds is 'Billed AI seconds.';
comment on column analytics.prompt_runs_with_details.cost_usd is
    'The cost in USD at the provider''s prices, as far as it is known.';
grant select on analytics.prompt_runs_with_details to throughline_analyst;

-- part: columns
session_id, project_id, user_id, private_to, name, description, tags, is_starred, mode, status,
    context, model, max_tokens, settings, prompt_id, prompt_version_id, prompt_number, answers,
    (
        select prompts.name from app.prompts
        where prompts.tenant_id = sessions.tenant_id and prompts.prompt_id = sessions.prompt_id
    ) as prompt_name,
    (
        select prompts.versions from app.prompts
        where prompts.tenant_id = sessions.tenant_id and prompts.prompt_id = sessions.prompt_id
    ) as prompt_newest,
    forked_from_session_id, forked_from_message_id, forked_at,
    first_words, message_count, item_count, tokens_used, ai_seconds, cost_usd, build_id,
    opened_at, last_active_at, active_position, app.cursor_at(active_position) as cursor,
    app.last_words(tenant_id, session_id) as last_words

-- name: of_id
select {columns}
from app.sessions
where tenant_id = %(tenant_id)s and session_id = %(session_id)s and status <> 'deleted'

-- name: lineage
-- The sessions that a fork left, the nearest first, each with the position up to which the fork
-- shares it. A session that was erased ends the line.
with recursive part as (
    select 1 as place, private_to, forked_from_session_id as session_id, forked_at as upto
    from app.sessions
    where tenant_id = %(tenant_id)s and session_id = %(session_id)s
    union all
    select
        part.place + 1, parent.private_to, parent.forked_from_session_id,
        least(parent.forked_at, part.upto)
    from part
    join app.sessions as parent
        on parent.tenant_id = %(tenant_id)s and parent.session_id = part.session_id
            and parent.private_to = part.private_to and parent.status <> 'deleted'
)
select part.session_id, part.upto
from part
join app.sessions as parent
    on parent.tenant_id = %(tenant_id)s and parent.session_id = part.session_id
        and parent.private_to = part.private_to and parent.status <> 'deleted'
where part.upto is not null
order by part.place

-- name: active
-- The session for the user's next message in a project.
select session_id
from app.sessions
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and user_id = %(user_id)s
    and mode = 'plan'
    and status = 'active'
    and message_count < %(full)s
    and tokens_used < %(spent)s
    and last_active_at > now() - make_interval(secs => %(idle_seconds)s)
order by last_position desc
limit 1

-- name: reusable
-- The session of a user, mode and context that takes one more message: the one that the user's next
-- message of mode plan would find, else the one that was changed last. An expired session counts.
select session_id
from app.sessions
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and user_id = %(user_id)s
    and mode = %(session_mode)s
    and context = %(context)s::jsonb
    and status in ('active', 'expired')
    and message_count < %(full)s
    and (%(spent)s::bigint is null or tokens_used < %(spent)s)
order by
    status = 'active' and last_active_at > now() - make_interval(secs => %(idle_seconds)s) desc,
    last_position desc
limit 1

-- part: wanted
-- The filters of a list, in which a filter that is null refuses nothing. PostgreSQL expects half of
-- the rows to pass a CASE. Of several conditions it would expect that hardly any row passes them,
-- and sort all sessions to find the first ones.
case
        when private_to not in ('', %(user_id)s) then false
        when status <> all (%(statuses)s) then false
        when mode <> %(mode)s or is_starred <> %(starred)s then false
        when %(tag)s::text is not null and %(tag)s <> all (tags) then false
        when %(run_id)s <> coalesce(context ->> 'runId', '') then false
        when %(prompt_id)s <> coalesce(context ->> 'promptId', '') then false
        when strpos(lower(coalesce(nullif(name, ''), first_words)), lower(%(searched)s)) = 0
            then false
        else true
    end

-- part: of_user
-- A user's sessions in all projects of which the user is a member now. A subquery for the membership
-- keeps the order of the index; a join would not.
tenant_id = %(tenant_id)s
    and user_id = %(user_id)s
    and coalesce((
        select true from app.members
        where members.tenant_id = sessions.tenant_id
            and members.project_id = sessions.project_id
            and members.user_id = sessions.user_id
    ), false)

-- part: keys
-- Where a session stands in a list that is sorted by names or by numbers of messages.
case %(sort)s
            when 'name' then left(lower(coalesce(nullif(name, ''), first_words)), 100)
            else ''
        end collate "C" as name_key,
        case %(sort)s when 'messages' then -message_count else 0 end as number_key,
        -active_position as position_key

-- name: project_recent
-- The sessions of a project that a user may see, those with the newest message first.
select {columns},
    '' as name_key, 0 as number_key, active_position as position_key
from app.sessions
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and active_block <= %(before)s::bigint / 256
    and active_position < %(before)s
    and {wanted}
order by active_block desc, active_position desc
limit %(limit)s

-- name: project_oldest
-- The same sessions, those with the newest message last.
select {columns},
    '' as name_key, 0 as number_key, active_position as position_key
from app.sessions
where tenant_id = %(tenant_id)s
    and project_id = %(project_id)s
    and active_block >= %(after)s::bigint / 256
    and active_position > %(after)s
    and {wanted}
order by active_block, active_position
limit %(limit)s

-- name: project_sorted
-- The same sessions by their names, or those with the most messages first. Equal ones come in the
-- order of project_recent. All sessions of the project are sorted for each page.
select *
from (
    select {columns},
        {keys}
    from app.sessions
    where tenant_id = %(tenant_id)s
        and project_id = %(project_id)s
        and {wanted}
) as listed
where (name_key, number_key, position_key) > (
    %(after_name)s, %(after_number)s, %(after_position)s
)
order by name_key, number_key, position_key
limit %(limit)s

-- name: user_recent
-- The sessions of a user, those with the newest message first.
select {columns},
    '' as name_key, 0 as number_key, active_position as position_key
from app.sessions
where {of_user}
    and active_block <= %(before)s::bigint / 256
    and active_position < %(before)s
    and {wanted}
order by active_block desc, active_position desc
limit %(limit)s

-- name: user_oldest
-- The same sessions, those with the newest message last.
select {columns},
    '' as name_key, 0 as number_key, active_position as position_key
from app.sessions
where {of_user}
    and active_block >= %(after)s::bigint / 256
    and active_position > %(after)s
    and {wanted}
order by active_block, active_position
limit %(limit)s

-- name: user_sorted
-- The same sessions, as in project_sorted.
select *
from (
    select {columns},
        {keys}
    from app.sessions
    where {of_user}
        and {wanted}
) as listed
where (name_key, number_key, position_key) > (
    %(after_name)s, %(after_number)s, %(after_position)s
)
order by name_key, number_key, position_key
limit %(limit)s

-- name: convertible
-- The sessions among these with plans that can be built now. An expired session counts, and a
-- converted session counts after its last build has failed.
select session_id
from app.sessions
where tenant_id = %(tenant_id)s
    and session_id = any (%(session_ids)s)
    and (
        status in ('active', 'expired')
        or status = 'converted' and exists (
            select from app.builds
            where builds.tenant_id = sessions.tenant_id
                and builds.build_id = sessions.build_id
                and builds.status = 'failed'
        )
    )
    and not exists (
        select from app.projects
        where projects.tenant_id = sessions.tenant_id
            and projects.project_id = sessions.project_id
            and projects.active_build_id is not null
    )

-- name: idle
-- The active sessions of all tenants without any message or reply for some time.
select tenant_id, project_id, session_id
from app.sessions
where status = 'active'
    and mode = any (%(modes)s)
    and opened_at <= now() - make_interval(secs => %(idle_seconds)s)
    and last_active_at <= now() - make_interval(secs => %(idle_seconds)s)
order by opened_at
limit %(limit)s
