-- The balance of each user's AI seconds. The decider of accounts keeps balances from falling below
-- zero. The check constraints here are the second defence: if such an event were in the log, this
-- read model would halt and not show it.

-- name: table
create table accounts (
    tenant_id        text   not null collate "C",
    user_id          text   not null collate "C",
    credited_seconds bigint not null default 0,
    bonus_seconds    bigint not null default 0,
    consumed_seconds bigint not null default 0,
    reserved_seconds bigint not null default 0,
    last_position    bigint not null,
    primary key (tenant_id, user_id),
    constraint reserved_is_not_negative check (reserved_seconds >= 0),
    constraint available_is_not_negative check (
        credited_seconds - consumed_seconds - reserved_seconds >= 0
    )
);
grant select, insert, update on accounts to throughline_service;

-- name: apply
create or replace function apply_accounts(p_after bigint, p_upto bigint) returns void
language plpgsql set search_path from current set enable_seqscan = off as $$
begin
    merge into accounts
    using (
        select
            event.tenant_id,
            state.user_id,
            max(event.position) as last_position,
            coalesce(sum(seconds) filter (where type = 'TimeCredited'), 0) as credited,
            coalesce(sum(seconds) filter (where type = 'TimeCredited' and kind = 'bonus'), 0)
                as bonus,
            coalesce(sum(seconds) filter (where type = 'TimeConsumed'), 0) as consumed,
            coalesce(sum(seconds) filter (where type = 'TimeReserved'), 0)
                - coalesce(sum(held_seconds), 0) as reserved
        from event
        cross join lateral json_to_record(convert_from(event.state, 'UTF8')::json) as state (
            user_id text, seconds integer, held_seconds integer, kind text
        )
        where event.position > p_after and event.position <= p_upto
            and event.type in (
                'TimeCredited', 'TimeReserved', 'TimeConsumed', 'ReservationReleased'
            )
        group by event.tenant_id, state.user_id
    ) as change
    on accounts.tenant_id = change.tenant_id and accounts.user_id = change.user_id
    when matched then update set
        credited_seconds = accounts.credited_seconds + change.credited,
        bonus_seconds = accounts.bonus_seconds + change.bonus,
        consumed_seconds = accounts.consumed_seconds + change.consumed,
        reserved_seconds = accounts.reserved_seconds + change.reserved,
        last_position = change.last_position
    when not matched then insert (
        tenant_id, user_id, credited_seconds, bonus_seconds, consumed_seconds, reserved_seconds,
        last_position
    ) values (
        change.tenant_id, change.user_id, change.credited, change.bonus, change.consumed,
        change.reserved, change.last_position
    );
end
$$;

-- name: view
create view analytics.user_ai_time_balance with (security_invoker) as
select
    tenant_id, user_id, credited_seconds, bonus_seconds, consumed_seconds, reserved_seconds,
    credited_seconds - consumed_seconds - reserved_seconds as available_seconds
from app.accounts;
comment on view analytics.user_ai_time_balance is
    'The AI seconds of each user, one row an account.';
comment on column analytics.user_ai_time_balance.tenant_id is 'The tenant of the account.';
comment on column analytics.user_ai_time_balance.user_id is 'The user of the account.';
comment on column analytics.user_ai_time_balance.credited_seconds is 'All seconds ever credited.';
comment on column analytics.user_ai_time_balance.bonus_seconds is
    'The part of the credited seconds that nobody paid for.';
comment on column analytics.user_ai_time_balance.consumed_seconds is 'All seconds ever billed.';
comment on column analytics.user_ai_time_balance.reserved_seconds is
    'Reserved for running replies, and for builds that have not ended.';
comment on column analytics.user_ai_time_balance.available_seconds is
    'credited_seconds - consumed_seconds - reserved_seconds; never below zero.';
grant select on analytics.user_ai_time_balance, app.accounts to throughline_analyst;

-- name: of_user
select
    user_id, credited_seconds, bonus_seconds, consumed_seconds, reserved_seconds,
    credited_seconds - consumed_seconds - reserved_seconds as available_seconds
from app.accounts
where tenant_id = %(tenant_id)s and user_id = %(user_id)s
