-- The trigger function of app.audit for update and truncate.
create or replace function app.refuse_audit_change() returns trigger
language plpgsql as $$
begin
    raise exception 'the audit is never changed' using errcode = 'TL002';
end
$$;
