"""Regions: a picture cut into parts that belong together, whatever their class; and what is decided inside them.

``REGIONS`` lists the sources: functions ``(image [H, W, 3] uint8, name, **parameters) -> RegionSet`` (``network``:
with ``device`` and ``offline`` besides). To add one: a file with that function, and a line here. ``cut.Cutter`` runs
them and keeps what they cut. ``LABELLERS`` lists what names things beside CLIP. "NAME:ARGUMENT" is
short for the parameter that ``about["argument"]`` names.
"""

from __future__ import annotations

from clipseg_ws.registry import Entry, registry

_HOME = "clipseg_ws.regions."
_SKIMAGE = ("skimage", "superpixels")

REGIONS: dict[str, Entry] = registry(
    Entry("none", "no regions: every pixel decides for itself"),
    Entry(
        "superpixels",
        "SLIC: small patches of like colour",
        home=_HOME + "superpixels:slic",
        parameters={"side": 16.0, "compactness": 10.0, "max_side": 1024},
        paper="Achanta et al., TPAMI 2012",
        needs=_SKIMAGE,
    ),
    Entry(
        "felzenszwalb",
        "segments of a minimum spanning forest, as large as the picture is even",
        home=_HOME + "superpixels:felzenszwalb",
        parameters={"scale": 200.0, "sigma": 0.8, "min_size": 100, "max_side": 1024},
        paper="Felzenszwalb and Huttenlocher, IJCV 2004",
        needs=_SKIMAGE,
    ),
    Entry(
        "grow",
        "small basins merged, the best pair of neighbours first, by colour at several scales and common border",
        home=_HOME + "grow:grow",
        parameters={
            "side": 8, "distance": 4.5, "count": 1, "scales": (0.0, 2.0, 4.0), "border": 0.5, "max_side": 512,
        },
    ),
    Entry(
        "files",
        "files:FOLDER, masks that are there: label PNGs, COCO RLE, SAM's JSON",
        home=_HOME + "files:read_regions",
        parameters={"folder": "", "rest": -1},
        about={"argument": "folder", "reads_files": True, "form": "files:FOLDER"},
    ),
    Entry(
        "sam",
        "sam:REPO, SAM, SAM-HQ, SAM 2 or SAM 3 of transformers with an automatic grid of points",
        home=_HOME + "sam_grid:automatic",
        parameters={
            "repo": "", "points": 32, "pred_iou": 0.88, "stability": 0.95, "offset": 1.0, "nms": 0.7, "min_area": 0,
            "max_side": 1024,
        },
        paper="Kirillov et al., ICCV 2023, arXiv 2304.02643; Ravi et al., arXiv 2408.00714",
        about={"argument": "repo", "network": True, "form": "sam:REPO"},
    ),
)  # fmt: skip

LABELLERS: dict[str, Entry] = registry(
    Entry("none", "CLIP alone names what is seen"),
    Entry(
        "sam3",
        "sam3:REPO, SAM 3 asked for every name; of both scores the higher one counts",
        home=_HOME + "sam_words:Labeller",
        parameters={"repo": "", "threshold": 0.3, "weight": 1.0},
        paper="Carion et al., arXiv 2511.16719",
        about={"argument": "repo", "network": True, "form": "sam3:REPO"},
    ),
)
