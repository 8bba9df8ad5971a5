-- The user that has the session of a stream alone. The result is empty for a session that all members
-- of the project see, and for a stream of another kind. The name of a private session's stream says
-- that the session is private. The first event of the stream names the user. No read model is read,
-- because a read model can be behind.
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
