-- The trigger function of app.event for update. Nobody may change an event, the owner included. The
-- one exception is masking, where the stream has a later event that erases this one.
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
                and app.erases(erased.type, erased.state, old.type, old.state)
        )
    then
        return new;
    end if;
    raise exception 'events are never changed and never removed'
        using errcode = 'TL001', hint = 'Append an event that corrects the earlier one.';
end
$$;
