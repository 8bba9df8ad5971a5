-- Sets the stream of one event aside in a read model. See app.project_around.
create or replace function app.set_stream_aside(
    p_schema text, p_name text, p_position bigint, p_reason text
) returns void
language plpgsql as $$
begin
    insert into app.set_aside (projection, tenant_id, stream_id, project_id, position, reason)
    select
        case p_schema when 'app' then p_name else p_schema end,
        tenant_id, stream_id, project_id, position, p_reason
    from app.event
    where position = p_position
    on conflict do nothing;
    if found and p_schema = 'app' then
        update app.projection set set_aside = set_aside + 1 where name = p_name;
    end if;
end
$$;
