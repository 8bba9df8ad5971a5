-- The trigger function of app.event for update. Nobody may change an event, the owner included. The
-- one exception is masking, in a stream that has a later event that erases it.
create or replace function app.require_masking() returns trigger
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
