"""Secrets in texts: what looks like one, where it is, and the text without it."""

from soorma_platform.engine.secrets.finding import Found, find, redacted
from soorma_platform.engine.secrets.formats import KINDS
from soorma_platform.engine.secrets.patterns import parse_patterns

__all__ = ["KINDS", "Found", "find", "parse_patterns", "redacted"]
