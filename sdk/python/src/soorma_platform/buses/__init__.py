"""Buses, which notify waiters of commits.

A bus loses nothing that matters: the store is the record.
"""
