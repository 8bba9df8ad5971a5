-- The plans that users saved as drafts.

-- name: table
create table drafts (
    tenant_id  text        not null collate "C",
    message_id text        not null collate "C",
    project_id text        not null collate "C",
    session_id text        not null collate "C",
    user_id    text        not null,
    mode       text        not null,
    title      text        not null,
    saved_at   timestamptz not null,
    position   bigint      not null,
    primary key (tenant_id, message_id)
);
create index drafts_of_project on drafts (tenant_id, project_id, position);
grant select, insert, delete on drafts to throughline_service;

-- name: apply
create or replace function apply_drafts(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into drafts (
        tenant_id, message_id, project_id, session_id, user_id, mode, title, saved_at, position
    )
    select
        event.tenant_id, state.message_id, event.project_id, state.session_id, state.user_id,
        state.mode, state.title, event.recorded_at, event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        message_id text, session_id text, user_id text, mode text, title text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'PlanSaved';

    -- The drafts of deleted sessions: their events are in the stream of the session.
    delete from drafts
    using event as erased
    join event as earlier
        on earlier.tenant_id = erased.tenant_id and earlier.stream_id = erased.stream_id
    where erased.position > p_after and erased.position <= p_upto
        and erased.type = 'SessionDeleted'
        and drafts.tenant_id = earlier.tenant_id
        and drafts.project_id = earlier.project_id
        and drafts.position = earlier.position;
end
$$;

-- name: view
create view analytics.project_drafts with (security_invoker) as
select tenant_id, project_id, session_id, message_id, user_id, mode, title, saved_at, position
from app.drafts;
comment on view analytics.project_drafts is 'The plans that users kept as drafts, one row a draft.';
comment on column analytics.project_drafts.tenant_id is 'The tenant of the project.';
comment on column analytics.project_drafts.project_id is 'The project.';
comment on column analytics.project_drafts.session_id is 'The session of the plan.';
comment on column analytics.project_drafts.message_id is 'The reply with the plan.';
comment on column analytics.project_drafts.user_id is 'The user who kept the plan.';
comment on column analytics.project_drafts.mode is 'feature or fix.';
comment on column analytics.project_drafts.title is 'The title of the plan.';
comment on column analytics.project_drafts.saved_at is 'The time when the plan was kept.';
comment on column analytics.project_drafts.position is 'The position of the event in the log.';
grant select on analytics.project_drafts, app.drafts to throughline_analyst;

-- name: of_reply
select message_id as reply_id, session_id, user_id, mode, title, saved_at, position,
    app.cursor_at(position) as cursor
from app.drafts
where tenant_id = %(tenant_id)s and message_id = %(reply_id)s

-- name: page
-- The drafts of a project, newest first.
select message_id as reply_id, session_id, user_id, mode, title, saved_at, position,
    app.cursor_at(position) as cursor
from app.drafts
where tenant_id = %(tenant_id)s and project_id = %(project_id)s and position < %(before)s
order by position desc
limit %(limit)s
