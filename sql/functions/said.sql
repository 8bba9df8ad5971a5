-- What a search finds of an item: its text, and all texts of its data, each in a line; the first
-- 50,000 characters, because a tsvector has an end.
create or replace function app.said(p_text text, p_data jsonb) returns text
language sql immutable parallel safe
return left(
    coalesce(p_text || e'\n', '') || coalesce(
        (
            select string_agg(value #>> '{}', e'\n')
            from jsonb_path_query(p_data, 'strict $.** ? (@.type() == "string")') as value
        ),
        ''
    ),
    50000
);
