-- An event's fields after erasure: text fields are null, or empty where a field is never null.
-- `make schema` writes the rows of `values` from the fields that domain/events.py marks as text.
create or replace function app.masked(p_state bytea) returns bytea
language sql immutable strict parallel safe set search_path = '' as $$
    select case
        when blanks is null then p_state
        else convert_to((state || blanks)::text, 'UTF8')
    end
    from (select convert_from(p_state, 'UTF8')::jsonb as state) as event
    cross join lateral (
        select jsonb_object_agg(key, blank::jsonb) as blanks
        from (
            values
                ('artifact_url', 'null'),
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
        ) as text_field (key, blank)
        where state -> key <> 'null'
    ) as found
$$;
