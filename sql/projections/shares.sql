-- The plans that can be read with a link. A share leaves this table when it is revoked, and when its
-- session is erased. An expired share stays, and nobody can read it.

-- name: table
create table shares (
    tenant_id    text        not null collate "C",
    share_id     text        not null collate "C",
    message_id   text        not null collate "C",
    project_id   text        not null collate "C",
    session_id   text        not null collate "C",
    user_id      text        not null,
    token_digest text        not null collate "C",
    shared_at    timestamptz not null,
    expires_at   timestamptz not null,
    position     bigint      not null,
    primary key (tenant_id, share_id)
);
create index shares_of_token on shares (token_digest);
create index shares_of_position on shares (tenant_id, position);
grant select, insert, delete on shares to throughline_service;

-- name: apply
create or replace function apply_shares(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into shares (
        tenant_id, share_id, message_id, project_id, session_id, user_id, token_digest, shared_at,
        expires_at, position
    )
    select
        event.tenant_id, state.share_id, state.message_id, event.project_id, state.session_id,
        state.user_id, state.token_digest, event.recorded_at, state.expires_at::timestamptz,
        event.position
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        share_id text, message_id text, session_id text, user_id text, token_digest text,
        expires_at text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'PlanShared';

    delete from shares
    using event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        share_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'ShareRevoked'
        and shares.tenant_id = event.tenant_id
        and shares.share_id = state.share_id;

    -- The shares of deleted sessions: their events are in the stream of the session.
    delete from shares
    using event as erased
    join event as earlier
        on earlier.tenant_id = erased.tenant_id and earlier.stream_id = erased.stream_id
    where erased.position > p_after and erased.position <= p_upto
        and erased.type = 'SessionDeleted'
        and earlier.type = 'PlanShared'
        and shares.tenant_id = earlier.tenant_id
        and shares.position = earlier.position;
end
$$;

-- name: view
create view analytics.project_shares with (security_invoker) as
select
    tenant_id, project_id, session_id, message_id, share_id, user_id, shared_at, expires_at, position
from app.shares;
comment on view analytics.project_shares is
    'The plans that can be read by a link, one row a share; revoked shares are not here.';
comment on column analytics.project_shares.tenant_id is 'The tenant of the project.';
comment on column analytics.project_shares.project_id is 'The project.';
comment on column analytics.project_shares.session_id is 'The session of the plan.';
comment on column analytics.project_shares.message_id is 'The reply with the plan.';
comment on column analytics.project_shares.share_id is
    'The share. The link has a secret in place of this id.';
comment on column analytics.project_shares.user_id is 'The user who shared the plan.';
comment on column analytics.project_shares.shared_at is 'The time when the plan was shared.';
comment on column analytics.project_shares.expires_at is
    'The time from which the link leads nowhere.';
comment on column analytics.project_shares.position is 'The position of the event in the log.';
grant select on analytics.project_shares to throughline_analyst;
-- The digest of the token is nothing for analysts.
grant select (
    tenant_id, project_id, session_id, message_id, share_id, user_id, shared_at, expires_at, position
) on app.shares to throughline_analyst;

-- name: of_id
select
    tenant_id, share_id, message_id as reply_id, project_id, session_id, user_id, shared_at,
    expires_at
from app.shares
where tenant_id = %(tenant_id)s and share_id = %(share_id)s

-- name: of_token
-- The share of a token, whatever its tenant: the token alone is the proof.
select
    tenant_id, share_id, message_id as reply_id, project_id, session_id, user_id, shared_at,
    expires_at
from app.shares
where token_digest = %(token_digest)s and expires_at > now()
