"""What an operator runs: the engine, its stores and buses, and the services on top of them."""
