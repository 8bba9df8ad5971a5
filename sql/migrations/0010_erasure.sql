-- Erasure. An event that says that a stream is erased masks what people wrote in the events before it,
-- in the same transaction: there is no such event without it, and no masking without such an event.
-- Positions, ids, times, seconds and money stay, so that the bills stay true and a rebuild is the same.


-- An event's fields with blanks in place of what people, models and workers wrote.
create function app.masked(p_state bytea) returns bytea
language sql immutable strict parallel safe set search_path = '' as $$
    select case
        when blanks is null then p_state
        else convert_to((state || blanks)::text, 'UTF8')
    end
    from (select convert_from(p_state, 'UTF8')::jsonb as state) as event
    cross join lateral (
        select jsonb_object_agg(key, blank) as blanks
        from (
            values
                ('artifact_url', 'null'::jsonb),
                ('data', 'null'),
                ('error', '""'),
                ('framework', 'null'),
                ('name', '""'),
                ('plan', 'null'),
                ('plan_digest', 'null'),
                ('preview_url', 'null'),
                ('prompt', '""'),
                ('source_root', 'null'),
                ('text', '""'),
                ('title', '""'),
                ('variables', '{}')
        ) as writing (key, blank)
        where state -> key <> 'null'
    ) as found
$$;


-- The types that say that their stream is erased.
create function app.erasures() returns text[]
language sql immutable parallel safe set search_path = '' as $$
    select array['SessionDeleted', 'BuildErased', 'ProjectErased']
$$;


-- Nobody changes what happened, not even the owner: but for masking, in a stream that was erased.
drop trigger event_is_append_only on app.event;

create trigger event_is_never_removed
before delete or truncate on app.event
for each statement execute function app.refuse_change();

create function app.require_masking() returns trigger
language plpgsql as $$
begin
    if to_jsonb(new) - 'state' = to_jsonb(old) - 'state'
        and new.state = app.masked(old.state)
        and exists (
            select from app.event as erased
            where erased.tenant_id = old.tenant_id
                and erased.stream_id = old.stream_id
                and erased.version > old.version
                and erased.type = any (app.erasures())
        )
    then
        return new;
    end if;
    raise exception 'events are never changed and never removed'
        using errcode = 'TL001', hint = 'Append an event that corrects the earlier one.';
end
$$;

create trigger event_is_masked_or_stays
before update on app.event
for each row execute function app.require_masking();

comment on table app.event is
    'Everything that happened, in commit order. Rows are never removed, and never changed but for '
    'erasure, which leaves blanks where people wrote.';


-- Masks the streams that were erased at p_first ... p_last, and lets go of the frames of their
-- replies; not of a place that was taken from a writer who was thought dead, for it may come back
-- and still have frames to store. It acts as the owner: the service may not change an event.
create function app.mask(p_first bigint, p_last bigint) returns void
language plpgsql security definer set search_path = '' set enable_seqscan = off as $$
begin
    delete from app.reply_chunk
    using app.event as erased
    join app.event as begun
        on begun.tenant_id = erased.tenant_id and begun.stream_id = erased.stream_id
    where erased.position between p_first and p_last
        and erased.type = any (app.erasures())
        and begun.type = 'ReplyStarted'
        and reply_chunk.frame is not null
        and reply_chunk.tenant_id = begun.tenant_id
        and reply_chunk.message_id = convert_from(begun.state, 'UTF8')::json ->> 'message_id';

    update app.event
    set state = app.masked(event.state)
    from app.event as erased
    where erased.position between p_first and p_last
        and erased.type = any (app.erasures())
        and event.tenant_id = erased.tenant_id
        and event.stream_id = erased.stream_id
        and event.version < erased.version
        and event.state <> app.masked(event.state);
end
$$;
revoke execute on function app.mask(bigint, bigint) from public;
grant execute on function app.mask(bigint, bigint) to throughline_service;


-- What happens in every append's own transaction, after its events: what they erase, read models,
-- then one wake-up.
create or replace function app.appended(p_first bigint, p_last bigint, p_types text[]) returns void
language plpgsql as $$
begin
    if p_types && app.erasures() then
        perform app.mask(p_first, p_last);
    end if;
    perform app.project_inline(p_first, p_last, p_types);
    perform pg_notify('throughline', p_last::text);
end
$$;
