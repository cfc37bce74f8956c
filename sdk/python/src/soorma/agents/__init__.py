"""Agents: processes that handle events, each handler a transaction."""

from soorma.agents.agent import Agent, Worker

__all__ = ["Agent", "Worker"]
