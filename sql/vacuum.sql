-- How late vacuum is.

-- name: dead_rows_ratio
-- Of the table that waits most for a vacuum: its dead rows, divided by the number of dead rows at which
-- autovacuum starts. Small tables always have some dead rows, so this number is 10,000 at least.
select coalesce(max(
    stat.n_dead_tup / greatest(
        10000,
        current_setting('autovacuum_vacuum_threshold')::float8
            + current_setting('autovacuum_vacuum_scale_factor')::float8 * class.reltuples
    )
), 0)::float8
from pg_stat_all_tables as stat
join pg_class as class on class.oid = stat.relid
where stat.schemaname = 'app'
