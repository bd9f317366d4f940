"""Refinement of maps: on the patch grid by attention, on the picture by its colours.

``REFINERS`` lists the refiners that look at the picture. To add one: a file with a function
``(scores [B, C, H, W], image [B, 3, H, W], *, ...) -> [B, C, H, W]`` under which scores in [0, 1] stay in [0, 1], and a
line here, its parameters with the defaults of the function.
"""

from __future__ import annotations

from clipseg_ws.registry import Entry, registry

REFINERS: dict[str, Entry] = registry(
    Entry("none", "the maps enlarged, nothing else", home="clipseg_ws.refine.picture:unrefined"),
    Entry(
        "pamr",
        "averages every pixel with neighbours of like colour, again and again",
        home="clipseg_ws.refine.pamr:pamr",
        parameters={"iterations": 10, "dilations": (8, 16)},
        paper="Araslanov and Roth, CVPR 2020, arXiv 2005.08104",
    ),
    Entry(
        "par",
        "as pamr with more distances and a term for nearness",
        home="clipseg_ws.refine.par:par",
        parameters={"iterations": 20, "dilations": (1, 2, 4, 8, 12, 24), "normalise": True, "max_side": 0},
        paper="Ru et al., CVPR 2022, arXiv 2203.02664",
    ),
    Entry(
        "guided",
        "a linear model of the colours fitted to the maps in every window",
        home="clipseg_ws.refine.guided:guided_filter",
        parameters={"radius": 24, "epsilon": 1e-4, "subsample": 1, "iterations": 1},
        paper="He, Sun and Tang, TPAMI 2013",
    ),
    Entry(
        "crf",
        "dense conditional random field over colours and places",
        home="clipseg_ws.refine.crf:dense_crf",
        parameters={
            "iterations": 10,
            "gaussian": (1.0, 3.0),
            "bilateral": (67.0, 3.0, 4.0),
            "reference_image": False,
            "half_unary": False,
        },
        paper="Kraehenbuehl and Koltun, NeurIPS 2011, arXiv 1210.5644",
        needs=("pydensecrf", "crf"),
        about={"channels": "together"},  # labels that compete; the other refiners treat every channel alone
    ),
    Entry(
        "superpixels",
        "the mean of the maps inside every superpixel",
        home="clipseg_ws.refine.superpixels:superpixel_mean",
        parameters={"side": 16.0, "compactness": 10.0, "blend": 1.0},
        paper="Achanta et al., TPAMI 2012",
        needs=("skimage", "superpixels"),
    ),
    Entry(
        "sam",
        "sam:REPO, every part of a class prompts a SAM by box, peak and rough mask",
        home="clipseg_ws.refine.sam:sam_masks",
        parameters={"repo": "", "parts": 20, "min_area": 225, "agreement": 0.5},
        paper="Kirillov et al., ICCV 2023, arXiv 2304.02643",
        about={"channels": "all", "argument": "repo", "network": True},  # background first, in [0, 1]
    ),
)
