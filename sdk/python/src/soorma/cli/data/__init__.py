"""`soorma state`, `soorma events` and `soorma agents`: what a platform that runs holds."""
