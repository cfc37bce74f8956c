"""Communication with the platform: connections, headers, retries, streams."""
