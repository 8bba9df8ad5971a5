-- The beginning of a text in one line: at most `p_most` characters and an ellipsis where something is
-- left out. It is cut between two words, unless the last word is longer than half of it.
create or replace function app.beginning(p_text text, p_most integer) returns text
language sql immutable strict set search_path = '' as $$
    select case
        when length(line) <= p_most then line
        else coalesce(
            substring(left(line, p_most + 1) from '^(.{' || p_most / 2 || ',}) '),
            left(line, p_most)
        ) || '…'
    end
    from (
        select btrim(regexp_replace(left(p_text, 4 * p_most), '[ \t\n\r\f\v]+', ' ', 'g')) as line
    ) as flat
$$;
