"""The contract between SDK and platform: envelopes, operations, requests, errors.

This package does no I/O.
"""

__version__ = "1.0.0"
