"""The rules of Soorma, without I/O: no clock, no randomness, no database of its own.

A store loads a `Snapshot`, a function of this package decides, the store writes the `Decision`, all
in one transaction. So property tests and simulations can exercise each rule as a function.
"""
