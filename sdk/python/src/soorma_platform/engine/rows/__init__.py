"""The rows that commands read and write: the language between the engine and a store.

Times are integers, milliseconds since 1970 UTC by the wall clock. Those whose names end in
`uptime`, and others where noted, are by the uptime clock (see `engine/moments.py`). Values,
envelopes and arguments are JSON text.
"""
