"""Principals: the identity behind each request, determined once, at the door."""

from soorma_platform.identity.door import (
    ANYBODY,
    Access,
    Door,
    Entrance,
    OpenDoor,
    Principal,
    check_protocol,
)

__all__ = [
    "ANYBODY",
    "Access",
    "Door",
    "Entrance",
    "OpenDoor",
    "Principal",
    "check_protocol",
]
