"""How news of a commit reaches those who wait. A bus loses nothing that matters: the store is the record."""
