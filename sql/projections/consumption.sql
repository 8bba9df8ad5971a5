-- The ledger: one row for each billed reply and build. Rows are never changed and never removed.

-- name: table
create table consumption (
    position           bigint        not null,
    tenant_id          text          not null collate "C",
    user_id            text          not null collate "C",
    project_id         text          not null collate "C",
    session_id         text          not null collate "C",
    message_id         text          not null collate "C",
    build_id           text          collate "C",
    reservation_id     text          not null collate "C",
    operation_type     text          not null,
    billed_seconds     integer       not null,
    bonus_seconds      integer,
    input_tokens       bigint,
    output_tokens      bigint,
    cache_read_tokens  bigint,
    cache_write_tokens bigint,
    cost_usd           numeric(18,6),
    prices             text          not null,
    model              text          not null,
    recorded_at        timestamptz   not null,
    primary key (tenant_id, user_id, position),
    constraint reservation_is_billed_once unique (tenant_id, reservation_id)
);
create index consumption_of_reply on consumption (tenant_id, message_id);
create index consumption_of_project on consumption (tenant_id, project_id, position);
grant select, insert on consumption to throughline_service;

-- name: apply
create or replace function apply_consumption(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    insert into consumption (
        position, tenant_id, user_id, project_id, session_id, message_id, build_id, reservation_id,
        operation_type, billed_seconds, bonus_seconds, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, cost_usd, prices, model, recorded_at
    )
    select
        event.position, event.tenant_id, state.user_id, state.project_id, state.session_id,
        state.message_id, state.build_id, state.reservation_id, state.operation, state.seconds,
        state.bonus_seconds, state.input_tokens, state.output_tokens, state.cache_read_tokens,
        state.cache_write_tokens, state.cost_usd, state.prices, state.model, event.recorded_at
    from event
    cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
        user_id text, project_id text, session_id text, message_id text, reservation_id text,
        operation text, seconds integer, bonus_seconds integer, input_tokens bigint, output_tokens bigint,
        cache_read_tokens bigint, cache_write_tokens bigint, cost_usd numeric, prices text,
        model text, build_id text
    )
    where event.position > p_after and event.position <= p_upto
        and event.type = 'TimeConsumed'
    order by event.position;
end
$$;

-- name: view
create view analytics.user_ai_time_consumption with (security_invoker) as
select
    position, tenant_id, user_id, project_id, session_id, message_id, build_id, operation_type,
    billed_seconds, bonus_seconds, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, cost_usd, prices, model, recorded_at
from app.consumption;
comment on view analytics.user_ai_time_consumption is
    'The ledger, one row a billed reply or build.';
comment on column analytics.user_ai_time_consumption.position is
    'The position of the event in the log.';
comment on column analytics.user_ai_time_consumption.tenant_id is 'The tenant of the account.';
comment on column analytics.user_ai_time_consumption.user_id is 'The user who is billed.';
comment on column analytics.user_ai_time_consumption.project_id is
    'The project of the reply or build.';
comment on column analytics.user_ai_time_consumption.session_id is
    'The session of the reply or build.';
comment on column analytics.user_ai_time_consumption.message_id is
    'The reply; for a build the message that asked for it.';
comment on column analytics.user_ai_time_consumption.build_id is 'The build; null for a reply.';
comment on column analytics.user_ai_time_consumption.operation_type is
    'Of a reply: plan_question, plan_feature, plan_fix, plan_analysis, plan_consultation, '
    'idea_consultation, run_feedback, prompt_run. Of a build: main_build, update, '
    'metadata_generation.';
comment on column analytics.user_ai_time_consumption.billed_seconds is
    'Seconds of the model''s work, each call rounded up; for a build what its worker reported. '
    'Never more than were reserved.';
comment on column analytics.user_ai_time_consumption.bonus_seconds is
    'The part of billed_seconds that bonus credits paid; null for replies of before it was noted.';
comment on column analytics.user_ai_time_consumption.input_tokens is
    'Input tokens outside the cache; null if the provider did not report them.';
comment on column analytics.user_ai_time_consumption.output_tokens is
    'Output tokens; null if the provider did not report them. For a build all its tokens.';
comment on column analytics.user_ai_time_consumption.cache_read_tokens is
    'Input tokens that the provider read from its cache.';
comment on column analytics.user_ai_time_consumption.cache_write_tokens is
    'Input tokens that the provider wrote to its cache.';
comment on column analytics.user_ai_time_consumption.cost_usd is
    'The cost in USD at the provider''s prices of that time; null if it is unknown, as it is for '
    'a build.';
comment on column analytics.user_ai_time_consumption.prices is
    'The version of the price table behind cost_usd.';
comment on column analytics.user_ai_time_consumption.model is
    'The model that wrote the reply; worker for a build.';
comment on column analytics.user_ai_time_consumption.recorded_at is
    'The time when the event was appended.';
grant select on analytics.user_ai_time_consumption, app.consumption to throughline_analyst;

-- name: page
-- The ledger of a user, newest first.
select
    position, project_id, session_id, message_id as reply_id, build_id, operation_type,
    billed_seconds, bonus_seconds, input_tokens, output_tokens, cache_read_tokens,
    cache_write_tokens, cost_usd,
    prices, model, recorded_at, app.cursor_at(position) as cursor
from app.consumption
where tenant_id = %(tenant_id)s and user_id = %(user_id)s and position < %(before)s
order by position desc
limit %(limit)s
