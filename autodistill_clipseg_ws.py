"""The name under which autodistill's users look for a base model: ``from autodistill_clipseg_ws import ClipsegWS``."""

from clipseg_ws.adapters.autodistill import ClipsegWS

__all__ = ["ClipsegWS"]
