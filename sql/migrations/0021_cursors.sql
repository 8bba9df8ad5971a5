-- A cursor names an event (sql/functions/cursor_of.sql). Nothing needs the epoch of the log any more.

drop function app.log_epoch();
