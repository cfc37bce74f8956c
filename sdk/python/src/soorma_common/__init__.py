"""The contract between the SDK and the platform: envelopes, operations, requests, errors.

No I/O.
"""

__version__ = "1.0.0"
