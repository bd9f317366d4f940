"""The steps that a method is made of, in the order in which they run.

``home`` is the function that does it. What it gets depends on ``about["when"]``:

| when | where | signature of ``home`` |
|---|---|---|
| looks | round everything else | (looks, size, **parameters) -> maps |
| tokens | before the last block | (tokens, **parameters) -> tokens |
| dense | inside the dense embeddings | named in ``stages/dense.py`` |
| matching | comparing with examples | named in ``fewshot/matcher.py`` |
| graph | what patches have to do with one another | (seen, **parameters) -> [B, N, N] |
| maps | on the patch grid, one after the other | (maps, seen, **parameters) -> maps |
| picture | on the picture, after its refinement | (scores, regions' partition, **parameters) -> scores |

``seen`` is a ``structures.Seen``. ``answerers``: those that run the step. ``reads``: fields of ``Config`` it looks at
besides. ``regions``: it reads ``Config.regions``. ``gain``: points of mIoU that it is worth to the default on drawn
scenes (eval/results/*_ablation.csv). A step is added by one file with that function and one line here.
"""

from __future__ import annotations

from clipseg_ws.registry import Entry, registry

_RUN = "clipseg_ws.stages.map_steps:"
_ALL = ("maps", "head")

STEPS = registry(
    Entry(
        "looks", "look at the picture at several sizes and mirrored, and bring the maps together",
        "clipseg_ws.activations.multiscale:agree", {"scales": (1.0,), "flip": False, "doubt": 0.0}, "",
        about={"when": "looks", "answerers": _ALL, "gain": "+0.8 at three to six times the cost"},
    ),
    Entry(
        "outliers", "replace outlier patch tokens by the mean of their neighbours before the last block",
        "clipseg_ws.activations.outliers:repair", {"share": 0.05, "method": "lof"},
        "lof: Bai et al., arXiv 2411.15869 (SC-CLIP); activation: Li et al., arXiv 2511.16170 (RF-CLIP)",
        about={"when": "tokens", "answerers": ("maps", "words"), "gain": "-0.8"},
    ),
    Entry(
        "correlation", "mix attention between patches of other blocks into the last one's, in dense maps",
        "clipseg_ws.activations.correlated:cross_correlation", {"kind": "cross", "weight": 0.5},
        "cross: Yang et al., CVPR 2025, arXiv 2411.15851 (ResCLIP); intra: Yang et al., CVPR 2025 (ExCEL)",
        about={"when": "dense", "answerers": ("maps", "words"), "gain": "-2.0"},
    ),
    Entry(
        "layer_fusion", "let tokens of earlier blocks pass the last one too, in dense maps",
        "clipseg_ws.activations.fusion:two_pass_embeddings", {"kind": "two-pass"},
        "early: Sun et al., arXiv 2411.13836 (CLIPer); two-pass: Bai et al., arXiv 2411.15869 (SC-CLIP)",
        about={"when": "dense", "answerers": ("maps", "words"), "gain": "-1.0"},
    ),
    Entry(
        "crossref", "gate channels by what support and query both activate",
        "clipseg_ws.activations.crossref:channel_gates", {}, "Liu et al., CVPR 2020, arXiv 2003.10658 (CRCNet)",
        about={"when": "matching", "answerers": ("maps",)},
    ),
    Entry(
        "alignment", "weigh the supports by how well they are segmented from the query, and report it",
        "clipseg_ws.activations.alignment:support_weights", {}, "Wang et al., ICCV 2019, arXiv 1908.06391 (PANet)",
        about={"when": "matching", "answerers": ("maps",)},
    ),
    Entry(
        "parts", "k-means parts beside the mean of a class and of the background",
        "clipseg_ws.activations.parts:kmeans", {"count": 3, "background": 1},
        "Liu et al., ECCV 2020, arXiv 2007.06309 (PPNet)",
        about={"when": "matching", "answerers": ("maps",)},
    ),
    Entry(
        "vote", "let every support decide alone, and count the votes",
        "clipseg_ws.activations.prototypes:vote", {}, "Min et al., ICCV 2021, arXiv 2104.01538 (HSNet)",
        about={"when": "matching", "answerers": ("maps",)},
    ),
    Entry(
        "known", "let other known words take their own pixels from the examples",
        "clipseg_ws.activations.suppress:suppress", {"words": "voc"},
        "Lang et al., CVPR 2022, arXiv 2203.07615 (BAM)",
        about={"when": "matching", "answerers": ("maps",)},
    ),
    Entry(
        "region_match", "answer examples by whole regions: ranked by how they cover matches, or a graph of them",
        "clipseg_ws.stages.region_match:matched_regions", {"kind": "matcher"},
        "matcher: Liu et al., ICLR 2024, arXiv 2305.13310; gf-sam: Zhang et al., NeurIPS 2024, arXiv 2410.06964",
        about={"when": "matching", "answerers": ("maps",), "regions": True},
    ),
    Entry(
        "suppression", "cap the maps' peaks, so that faint parts count",
        _RUN + "suppression", {"share": 0.45}, "Kim et al., AAAI 2021, arXiv 2103.07246 (DRS)",
        about={"when": "maps", "answerers": _ALL, "gain": "+0.4"},
    ),
    Entry(
        "structure", "let affinity and saliency follow the likeness of several blocks' tokens",
        _RUN + "structure", {"kind": "both", "blocks": 1}, "Sun and Li, arXiv 2111.03392 (SSA)",
        about={"when": "graph", "answerers": _ALL, "gain": "-0.8"},
    ),
    Entry(
        "affinity", "spread every map along the attention, from the cells inside its own boxes",
        _RUN + "affinity", {"threshold": 0.4, "sinkhorn_iterations": 3, "exclude_last": False},
        "Lin et al., CVPR 2023, arXiv 2212.09506 (CLIP-ES)",
        about={"when": "maps", "answerers": _ALL, "reads": ("attention_blocks",), "gain": "+2.2"},
    ),
    Entry(
        "expand_shrink", "lift the faint parts of a map, then draw it back from the ground",
        _RUN + "expanded", {}, "Li et al., NeurIPS 2022, arXiv 2209.07761 (ESOL)",
        about={"when": "maps", "answerers": _ALL, "gain": "-1.0"},
    ),
    Entry(
        "cross_image", "mix in the likeness to same-tag regions of the batch's other pictures",
        _RUN + "crossed", {"weight": 0.2}, "Li et al., AAAI 2021, arXiv 2012.05007 (Group-WSSS); RPNet",
        about={"when": "maps", "answerers": _ALL, "gain": "0.0"},
    ),
    Entry(
        "saliency", "weigh the maps by what stands out in the attention",
        _RUN + "salient", {"weight": 0.3}, "Chen et al., TMM 2022, arXiv 2206.09554 (I2CRC)",
        about={"when": "maps", "answerers": _ALL, "reads": ("attention_blocks",), "gain": "-0.1"},
    ),
    Entry(
        "boundary", "spread every map up to boundaries that its sure patches and the features' edges agree on",
        _RUN + "bounded", {"sure": 0.6, "unsure": 0.3, "radius": 3, "rounds": 4},
        "Ahn et al., CVPR 2019, arXiv 1904.05044 (IRNet)",
        about={"when": "maps", "answerers": _ALL},
    ),
    Entry(
        "competition", "take back what was spread over a neighbour where the patch itself speaks for the neighbour",
        _RUN + "competition", {"weight": 0.25}, "",
        about={"when": "maps", "answerers": ("maps",), "reads": ("dense_mode",), "gain": "+0.5"},
    ),
    Entry(
        "region_affinity", "spread every map from region to region, by the likeness of their mean tokens",
        _RUN + "between_regions", {"weight": 0.5, "sharpness": 20.0}, "",
        about={"when": "maps", "answerers": ("maps",), "regions": True},
    ),
    Entry(
        "votes", "give every region of --regions one answer, by the mean of its pixels' scores or by their majority",
        "clipseg_ws.regions.votes:region_votes", {"by": "mean"},
        "majority: Zhang et al., ICCV 2025, arXiv 2411.10086 (CorrCLIP)",
        about={"when": "picture", "answerers": ("maps", "words", "head"), "regions": True},
    ),
)  # fmt: skip
