"""How calls get to the platform: connections, headers, retries, streams."""
