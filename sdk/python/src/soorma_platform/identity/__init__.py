"""Principals: the identity behind each request, determined once, at the door."""

from soorma_platform.identity.door import ANYBODY, Access, OpenDoor, Principal, check_protocol

__all__ = ["ANYBODY", "Access", "OpenDoor", "Principal", "check_protocol"]
