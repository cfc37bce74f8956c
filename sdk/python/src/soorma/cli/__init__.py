"""The `soorma` command: a room for each of its nouns, and beside them what all commands use.

A command is imported when it is named (`commands`), and the platform only by those that start one
or work on its store, so that `soorma version` costs little more than typer. What knows the database
is the platform's.
"""
