-- The words of what was said, for searches: one row for each message, reply, material and name of a
-- session. The texts themselves are in the timeline and in the sessions.
--
-- A search reads the rows of one project. Text search is not leakproof, so it uses no index under
-- row level security: docs/decisions/0017-search.md has the reasons and the numbers. Therefore the
-- rows are narrow, and the table has no other index than its key.
--
-- The words are stems in the row's language. The name of a session has no locale: its words are
-- those of all languages, and its language is empty.

-- name: table
create table words (
    tenant_id  text     not null collate "C",
    project_id text     not null collate "C",
    position   bigint   not null,
    private_to text     not null default '' collate "C",
    session_id text     not null collate "C",
    language   text     not null collate "C",
    stems      tsvector not null,
    primary key (tenant_id, project_id, position)
);
grant select, insert, delete on words to throughline_service;

-- name: apply
create or replace function apply_words(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into words (
        tenant_id, project_id, position, private_to, session_id, language, stems
    )
    select
        event.tenant_id, event.project_id, event.position,
        case
            when event.stream_id like 'session-private-%'
                then app.private_to(event.tenant_id, event.stream_id)
            else ''
        end,
        state.session_id, spoken.language, analysed.stems
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        session_id text, name text, text text, data jsonb, locale text
    )
    cross join lateral (
        select
            case
                when event.type in ('SessionOpened', 'SessionRenamed') then ''
                when event.type = 'ReplyCompleted'
                    then app.search_language(coalesce(state.locale, 'en'))
                else app.search_language(state.locale)
            end as language,
            app.said(coalesce(state.text, state.name), state.data) as text
    ) as spoken
    cross join lateral (
        select case spoken.language
            when '' then to_tsvector('english', spoken.text)
                || to_tsvector('french', spoken.text)
                || to_tsvector('spanish', spoken.text)
                || to_tsvector('arabic', spoken.text)
                || to_tsvector('simple', spoken.text)
            else to_tsvector(spoken.language::regconfig, spoken.text)
        end as stems
    ) as analysed
    where event.position > p_after and event.position <= p_upto
        and event.type in (
            'UserMessagePosted', 'AssistantMessageAdded', 'MaterialAdded', 'ReplyCompleted',
            'SessionOpened', 'SessionRenamed'
        )
        and analysed.stems <> ''::tsvector
    order by event.position;

    -- A session has one name. All these kinds of events are rare.
    if exists (
        select from event
        where event.position > p_after and event.position <= p_upto
            and event.type in (
                'SessionRenamed', 'SessionDeleted', 'MaterialErased', 'ProjectErased'
            )
    ) then
        delete from words
        using event as later
        join event as earlier
            on earlier.tenant_id = later.tenant_id and earlier.stream_id = later.stream_id
                and earlier.version < later.version
        where later.position > p_after and later.position <= p_upto
            and (
                later.type in ('SessionDeleted', 'MaterialErased')
                and app.erases(later.type, later.state, earlier.type, earlier.state)
                or later.type = 'SessionRenamed'
                and earlier.type in ('SessionOpened', 'SessionRenamed')
            )
            and words.tenant_id = earlier.tenant_id
            and words.project_id = earlier.project_id
            and words.position = earlier.position;

        delete from words
        using event
        where event.position > p_after and event.position <= p_upto
            and event.type = 'ProjectErased'
            and words.tenant_id = event.tenant_id
            and words.project_id = event.project_id
            and words.position < event.position;
    end if;
end
$$;

-- name: search
-- What was found in a project, the newest first, before a position. `user_id` also finds what is
-- private to that user. The marks around a match are two control characters, which the text loses.
with query as materialized (
    select n, language, websearch_to_tsquery(language::regconfig, %(query)s) as stems
    from unnest(array['english', 'french', 'spanish', 'arabic', 'simple'])
        with ordinality as each (language, n)
),
found as materialized (
    select words.position, words.private_to, words.session_id, words.language
    from app.words
    where words.tenant_id = %(tenant_id)s
        and words.project_id = %(project_id)s
        and words.position < %(before)s
        and words.private_to in ('', %(user_id)s)
        and (
            %(mode)s::text is null
            or exists (
                select from app.sessions
                where sessions.tenant_id = words.tenant_id
                    and sessions.session_id = words.session_id
                    and sessions.mode = %(mode)s
            )
        )
        and words.stems @@ case words.language
            when 'english' then (select stems from query where language = 'english')
            when 'french' then (select stems from query where language = 'french')
            when 'spanish' then (select stems from query where language = 'spanish')
            when 'arabic' then (select stems from query where language = 'arabic')
            when 'simple' then (select stems from query where language = 'simple')
            else (select stems from query where language = 'english')
                || (select stems from query where language = 'french')
                || (select stems from query where language = 'spanish')
                || (select stems from query where language = 'arabic')
                || (select stems from query where language = 'simple')
        end
    order by words.position desc
    limit %(limit)s
)
select
    found.position, app.cursor_at(found.position) as cursor, found.session_id,
    case sessions.name when '' then sessions.first_words else sessions.name end as session_name,
    timeline.item_id, timeline.kind, timeline.locale, timeline.recorded_at,
    -- The stems of a name are those of all languages, one language after the other. A phrase can match
    -- the last stem of a language and the first stem of the next one: then nothing is marked.
    coalesce(
        (
            select ts_headline(
                query.language::regconfig, item.text, query.stems,
                e'StartSel="\x01", StopSel="\x02", MaxFragments=3, MaxWords=30, MinWords=10, '
                'FragmentDelimiter=" … "'
            )
            from query
            where query.language = found.language
                or found.language = ''
                and to_tsvector(query.language::regconfig, item.text) @@ query.stems
            order by query.n
            limit 1
        ),
        left(item.text, 200)
    ) as marked
from found
join app.sessions
    on sessions.tenant_id = %(tenant_id)s and sessions.session_id = found.session_id
join app.timeline
    on timeline.tenant_id = %(tenant_id)s
        and timeline.project_id = %(project_id)s
        and timeline.private_to = found.private_to
        and timeline.position = found.position
cross join lateral (
    select translate(
        case found.language
            when '' then sessions.name
            else app.said(timeline.text, timeline.data)
        end,
        e'\x01\x02', ''
    ) as text
) as item
order by found.position desc
