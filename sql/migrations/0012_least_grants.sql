-- The nonces of all tenants are in one table, and only the service's own work uses them.

revoke select, insert, delete on app.nonce from throughline_tenant;
