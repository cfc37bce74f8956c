"""The way to the platform: connections, headers, retries, streams."""
