-- Lets appends leave a read model alone, and writes its checkpoint. Waits for the append that is in
-- flight, and lets the next append wait for a moment.
create or replace function app.stop_following(p_name text) returns void
language plpgsql set enable_seqscan = off as $$
begin
    lock table app.follow_lock in exclusive mode;
    update app.projection
    set
        position = case when follows then app.log_head() else position end,
        follows = false,
        is_paused = true
    where name = p_name;
end
$$;
