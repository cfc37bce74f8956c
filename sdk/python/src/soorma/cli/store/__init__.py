"""`soorma backup` and `soorma restore`: the record as files."""
