"""The runtime of an agent: its connection, its attempts at events, and their upkeep."""
