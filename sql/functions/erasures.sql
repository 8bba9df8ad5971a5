-- The event types that erase texts of their stream: ERASURES in domain/events.py. A test compares the
-- two. See app.erases.
create or replace function app.erasures() returns text[]
language sql immutable parallel safe set search_path = '' as $$
    select array[
        'SessionDeleted', 'MaterialErased', 'BuildErased', 'RunErased', 'ProjectErased',
        'PromptErased'
    ]
$$;
