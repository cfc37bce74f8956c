"""Retrieval: texts to terms, terms to an index of a collection, and the ranking of passages.

Pure functions and plain data, as everywhere in the engine: a store keeps the terms, and whoever
searches loads them.
"""
