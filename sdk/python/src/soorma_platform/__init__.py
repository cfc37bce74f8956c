"""The platform that an operator runs: the engine, its stores and buses, and the services on top."""
