-- The trigger function of app.event for delete and truncate.
create or replace function app.refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception 'events are never changed and never removed'
        using errcode = 'TL001', hint = 'Append an event that corrects the earlier one.';
end
$$;
