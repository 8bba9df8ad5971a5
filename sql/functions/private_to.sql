-- The user who alone may see a session, from the name of its stream; empty where all members of the
-- project may, and for a stream of another kind. The name of a private session's stream says that
-- the session is private. Its first event says for ever to whom, so no read model has to be up to
-- date.
create or replace function app.private_to(p_tenant_id text, p_stream_id text) returns text
language sql stable set search_path from current as $$
    select case
        when p_stream_id like 'session-private-%' then coalesce(
            (
                select convert_from(state, 'UTF8')::json ->> 'user_id'
                from app.event
                where tenant_id = p_tenant_id and stream_id = p_stream_id and version = 1
            ),
            '?'
        )
        else ''
    end
$$;
