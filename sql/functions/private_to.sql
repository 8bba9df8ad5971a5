-- The user who alone may see a session, from the name of its stream; empty where all members of the
-- project may, and for a stream of another kind. A session stays what it was opened as. So its
-- first event says it for ever, and no read model has to be up to date.
create or replace function app.private_to(p_tenant_id text, p_stream_id text) returns text
language plpgsql stable set search_path from current as $$
declare
    opened json;
begin
    if p_stream_id not like 'session-%' then
        return '';
    end if;
    select convert_from(state, 'UTF8')::json into opened
    from app.event
    where tenant_id = p_tenant_id and stream_id = p_stream_id and version = 1
        and type = 'SessionOpened';
    return case when opened ->> 'mode' = 'prompt' then coalesce(opened ->> 'user_id', '') else '' end;
end
$$;
