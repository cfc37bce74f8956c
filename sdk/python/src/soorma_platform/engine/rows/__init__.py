"""The rows that commands read and write: the language between the engine and a store.

Times are integers, milliseconds since 1970 UTC by the wall clock; those whose names end in
`uptime`, and a few of which it is said, are by that clock (see `engine/moments.py`). Values,
envelopes and arguments are JSON text.
"""
