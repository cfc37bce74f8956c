"""Owners of rows, as columns: `''` stands for all tenants, whose names are never empty."""

from __future__ import annotations

from soorma_common.names import All, Owner


def kept(owner: Owner) -> str:
    """Returns the column value of rows that belong to one tenant, or to all of them."""
    return "" if owner is All.TENANTS else owner


def among(owner: Owner) -> str | None:
    """Returns the query parameter for rows that belong to one tenant; None for those of anybody."""
    return None if owner is All.TENANTS else owner
