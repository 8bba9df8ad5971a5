-- An event's fields after erasure: text fields are null, or empty where a field is never null. The
-- state of another application may be no JSON object. An empty object replaces such a state.
-- `make schema` writes the rows of `values` from the fields that domain/events.py marks as text.
create or replace function app.masked(p_state bytea) returns bytea
language plpgsql immutable strict set search_path = '' as $$
declare
    state jsonb;
    blanks jsonb;
begin
    state := convert_from(p_state, 'UTF8');
    if jsonb_typeof(state) <> 'object' then
        return '{}';
    end if;
    select jsonb_object_agg(key, blank::jsonb) into blanks
        from (
            values
                ('answers', 'null'),
                ('artifact_url', 'null'),
                ('data', 'null'),
                ('description', '""'),
                ('error', '""'),
                ('findings', '[]'),
                ('framework', 'null'),
                ('input', 'null'),
                ('instructions', 'null'),
                ('name', '""'),
                ('note', 'null'),
                ('output', 'null'),
                ('placeholders', '[]'),
                ('plan', 'null'),
                ('plan_digest', 'null'),
                ('preview_url', 'null'),
                ('prompt', '""'),
                ('scores', 'null'),
                ('settings', 'null'),
                ('source_root', 'null'),
                ('summary', 'null'),
                ('tags', '[]'),
                ('text', '""'),
                ('title', '""'),
                ('variables', '{}')
        ) as text_field (key, blank)
        where state -> key <> 'null';
    return case when blanks is null then p_state else convert_to((state || blanks)::text, 'UTF8') end;
exception
    when data_exception then
        return '{}';
end
$$;
