"""The `soorma` command: a package for each group of commands, and modules that all of them use.

A command is imported when it is named (`commands`), and the platform only by commands that start
one or work on its store, so that `soorma version` costs little more than typer. All code that knows
the database is the platform's.
"""
