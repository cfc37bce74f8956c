"""`soorma state`, `soorma events` and `soorma agents`: the data of a running platform."""
