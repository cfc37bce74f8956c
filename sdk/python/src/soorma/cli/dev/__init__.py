"""`soorma dev`: the platform of a folder on this machine, started, looked at and stopped."""
