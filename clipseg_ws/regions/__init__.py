"""Regions: a picture cut into parts that belong together, whatever their class.

``REGIONS`` lists the cutters: functions ``(image [B, 3, H, W], *, ...) -> [B, H, W]`` int64 region numbers from 0.
"""

from __future__ import annotations

from clipseg_ws.registry import Entry, registry

REGIONS: dict[str, Entry] = registry(
    Entry(
        "superpixels",
        "SLIC: small patches of like colour",
        home="clipseg_ws.regions.superpixels:slic_segments",
        parameters={"side": 16.0, "compactness": 10.0},
        paper="Achanta et al., TPAMI 2012",
        needs=("skimage", "superpixels"),
    ),
)
