"""The machine under an agent: its connection, its attempts at events, and all that keeps them alive."""
