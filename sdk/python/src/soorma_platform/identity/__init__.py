"""Who asks, for whom, and what that lets them do: settled once, at the door."""

from soorma_platform.identity.door import ANYBODY, Access, OpenDoor, Principal, check_protocol

__all__ = ["ANYBODY", "Access", "OpenDoor", "Principal", "check_protocol"]
