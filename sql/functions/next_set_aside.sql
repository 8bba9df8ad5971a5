-- The position of the first event after `p_after` up to `p_upto` that a read model leaves out; null
-- if there is none. An event that erases its stream is not left out.
create or replace function app.next_set_aside(p_key text, p_after bigint, p_upto bigint)
returns bigint
language sql stable set enable_seqscan = off as $$
    select min(event.position)
    from app.set_aside
    join app.event
        on event.tenant_id = set_aside.tenant_id and event.stream_id = set_aside.stream_id
    where set_aside.projection = p_key
        and event.position > p_after and event.position <= p_upto
        and event.position >= set_aside.position
        and event.type <> all (app.erasures())
$$;
