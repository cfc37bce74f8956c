"""Secrets in texts: what looks like one, where it is, and the text without it."""

from soorma_platform.engine.secrets.finding import SecretPlace, find, redacted
from soorma_platform.engine.secrets.formats import KINDS
from soorma_platform.engine.secrets.patterns import parse_patterns

__all__ = ["KINDS", "SecretPlace", "find", "parse_patterns", "redacted"]
