"""Soorma: shared working memory and events for AI agents that work on one goal."""

from soorma_common import __version__

__all__ = ["__version__"]
