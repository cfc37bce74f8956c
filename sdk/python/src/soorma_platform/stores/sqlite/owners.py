"""To whom rows belong, as columns: `''` stands for all tenants, whose names are never empty."""

from __future__ import annotations

from soorma_common.names import All, Owner


def kept(owner: Owner) -> str:
    """The column of what belongs to one tenant, or to all of them."""
    return "" if owner is All.TENANTS else owner


def among(owner: Owner) -> str | None:
    """The parameter of a query for what belongs to one tenant; None: for what belongs to anybody."""
    return None if owner is All.TENANTS else owner
