"""Embeddings: texts to vectors, by a model that runs here, or behind an address."""
