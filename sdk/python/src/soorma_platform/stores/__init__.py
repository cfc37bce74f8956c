"""Where the record lives. Each store keeps one protocol and passes one conformance suite."""
