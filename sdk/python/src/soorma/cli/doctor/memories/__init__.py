"""Checks of the memories."""
