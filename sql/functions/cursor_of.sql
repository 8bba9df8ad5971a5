-- The cursor of an event: its position, and the last eight digits of its append id, which are drawn
-- at random. Another history of the log has another event at this position, with other digits.
create or replace function app.cursor_of(p_position bigint, p_append_id uuid) returns text
language sql immutable strict parallel safe as $$
    select p_position::text || '.' || right(p_append_id::text, 8)
$$;
