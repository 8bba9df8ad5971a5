-- The text search configuration for a locale: `french` for fr-CA, `simple` for a language without
-- one here, and for no locale.
create or replace function app.search_language(p_locale text) returns text
language sql immutable parallel safe
return case lower(substring(p_locale from '^[A-Za-z]+'))
    when 'en' then 'english'
    when 'fr' then 'french'
    when 'es' then 'spanish'
    when 'ar' then 'arabic'
    else 'simple'
end;
