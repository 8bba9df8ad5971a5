-- Whether an event erases the texts of an earlier event of its stream. Most events that erase do so
-- for all earlier events. `MaterialErased` does so for the one material that it names.
create or replace function app.erases(
    p_type text, p_state bytea, p_earlier_type text, p_earlier_state bytea
) returns boolean
language sql immutable parallel safe set search_path = '' as $$
    select p_type = any (app.erasures()) and case
        when p_type <> 'MaterialErased' then true
        when p_earlier_type <> 'MaterialAdded' then false
        else convert_from(p_earlier_state, 'UTF8')::json ->> 'message_id'
            = convert_from(p_state, 'UTF8')::json ->> 'message_id'
    end
$$;
