-- The beginning of what was said last in a session: by a user, by a client, or by the model.
create or replace function app.last_words(p_tenant_id text, p_session_id text) returns text
language sql stable cost 1000 set search_path = '' as $$
    select
        app.beginning(coalesce(
            text,
            data ->> 'answer',
            data ->> 'summary',
            data ->> 'rootCause',
            data ->> 'overview',
            data ->> 'markdown',
            data ->> 'analysis'
        ), 120)
    from app.timeline
    where tenant_id = p_tenant_id
        and session_id = p_session_id
        and is_visible
        and kind in ('user_message', 'assistant_message', 'reply')
        and subtype is distinct from 'error'
    order by position desc
    limit 1
$$;
