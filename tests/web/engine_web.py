"""The embedded model behind the page, loaded once for all its tests."""

from __future__ import annotations

from functools import cache

from clipseg_ws.web.engine import Engine


@cache
def nano_engine() -> Engine:
    """In float32, no other models on offer."""
    return Engine("nano", dtype="float32", others=())
