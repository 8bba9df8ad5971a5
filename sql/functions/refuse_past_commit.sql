-- The trigger function of past.turn, which runs at the commit. A commit would leave rows of the past
-- for the next reader.
create or replace function app.refuse_past_commit() returns trigger
language plpgsql as $$
begin
    raise exception 'the past is read and never stored'
        using errcode = 'TL002', hint = 'End the transaction with a rollback.';
end
$$;
