-- The event types that erase their stream: ERASURES in domain/events.py. A test compares the two.
create or replace function app.erasures() returns text[]
language sql immutable parallel safe set search_path = '' as $$
    select array['SessionDeleted', 'BuildErased', 'ProjectErased', 'PromptErased']
$$;
