-- Copies the events of a user's account up to `p_upto` into the schema `past`, at most `p_limit` of
-- them. Returns how many.
create or replace function app.copy_past_account(
    p_tenant_id text, p_user_id text, p_upto bigint, p_limit bigint
) returns bigint
language plpgsql set search_path = '' set enable_seqscan = off as $$
declare
    v_count bigint;
begin
    insert into past.event
    select *
    from app.event
    where tenant_id = p_tenant_id
        and stream_id = 'account-' || p_tenant_id || '-' || p_user_id
        and position <= p_upto
    order by version
    limit p_limit;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;

revoke execute on function app.copy_past_account(text, text, bigint, bigint) from public;
