"""The stores of the record. Each implements one protocol and passes one conformance suite."""
