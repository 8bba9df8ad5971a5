-- Masks the streams that the events `p_first` to `p_last` erase, and deletes the frames of their
-- replies. Runs as the owner, because the service may not change an event.
--
-- Rows without a frame stay. Such a row takes a number away from a writer that seemed dead. That
-- writer may come back and try to store frames under this number.
create or replace function app.mask(p_first bigint, p_last bigint) returns void
language plpgsql security definer set search_path = '' set enable_seqscan = off as $$
begin
    delete from app.reply_chunk
    using app.event as erased
    join app.event as begun
        on begun.tenant_id = erased.tenant_id and begun.stream_id = erased.stream_id
    where erased.position between p_first and p_last
        and erased.type = any (app.erasures())
        and begun.type = 'ReplyStarted'
        and app.erases(erased.type, erased.state, begun.type, begun.state)
        and reply_chunk.frame is not null
        and reply_chunk.tenant_id = begun.tenant_id
        and reply_chunk.message_id = convert_from(app.masked(begun.state), 'UTF8')::json ->> 'message_id';

    update app.event
    set state = app.masked(event.state)
    from app.event as erased
    where erased.position between p_first and p_last
        and erased.type = any (app.erasures())
        and event.tenant_id = erased.tenant_id
        and event.stream_id = erased.stream_id
        and event.version < erased.version
        and app.erases(erased.type, erased.state, event.type, event.state)
        and event.state <> app.masked(event.state);
end
$$;

revoke execute on function app.mask(bigint, bigint) from public;
grant execute on function app.mask(bigint, bigint) to throughline_service;
