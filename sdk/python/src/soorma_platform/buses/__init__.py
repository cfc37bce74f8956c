"""Buses take news of commits to those who wait.

A bus loses nothing that matters: the store is the record.
"""
