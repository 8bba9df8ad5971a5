-- The trigger function of app.audit for delete. Not even the owner removes a younger entry.
create or replace function app.require_old_entry() returns trigger
language plpgsql as $$
begin
    if old.at < now() - interval '30 days' then
        return old;
    end if;
    raise exception 'an entry of the audit stays for 30 days at least' using errcode = 'TL002';
end
$$;
