"""The methods: named settings, most of them a published system. A method is one entry.

``parameters`` are the settings that differ from ``Config``'s own; "steps" lists what runs, see ``config.steps``.
"""

from __future__ import annotations

from typing import Any

from clipseg_ws.registry import Entry, registry

# changed attention in the last block, softmax over words, sliding windows; sizes and thresholds of VOC-like pictures,
# other data sets have theirs in eval/protocols.py
_DENSE: dict[str, Any] = {
    "decision": "words",
    "activation": "dense",
    "presence": False,
    "steps": "none",
    "attention_blocks": 0,
    "position_interpolation": "bicubic-offset",
    "templates": "imagenet80",
    "fusion": "max",
    "short_side": 336,
    "long_side": 2048,
    "logit_scale": 40.0,
    "background_threshold": 0.1,
}
_EXAMPLES: dict[str, Any] = {"background_rule": "prompts", "regions": "grow", "refine": "none"}
_EXAMPLES |= {"fewshot": {"prior": 0.0, "refit": "none", "text_weight": 0.0}}
_ES: dict[str, Any] = {"position_interpolation": "bilinear", "templates": "clip-es"}

METHODS = registry(
    Entry(
        "default", "the best that was measured, for names, examples and weak labels alike", "",
        {"activation": "fused", "steps": "affinity, competition", "refine": "guided"},
    ),
    Entry(
        "clip-es", "CLIP-ES without its CRF (add refine=crf)", "", _ES | {"steps": "affinity(exclude_last=true)"},
        "Lin et al., CVPR 2023, arXiv 2212.09506",
    ),
    Entry(
        "cam", "softmax-GradCAM alone: CLIP-ES before the affinity", "", _ES | {"steps": "none"},
        "Lin et al., CVPR 2023, arXiv 2212.09506",
    ),
    Entry(
        "prototypes", "with examples: masked average pooling and 20 x cosine alone (SG-One, PANet, untrained)", "",
        {"steps": "none", "background_rule": "prompts"}
        | {"fewshot": {"prior": 0.0, "refit": "none", "text_weight": 0.0}},
        "Wang et al., ICCV 2019, arXiv 1908.06391",
    ),
    Entry(
        "maskclip", "values of the last block, softmax over words, windows", "",
        _DENSE | {"dense_mode": "maskclip", "window": 224, "stride": 112}, "Zhou et al., ECCV 2022, arXiv 2112.01071",
    ),
    Entry(
        "sclip", "q-q and k-k attention in the last block", "",
        _DENSE | {"dense_mode": "sclip", "window": 224, "stride": 112}, "Wang et al., ECCV 2024, arXiv 2312.01597",
    ),
    Entry(
        "clearclip", "q-q attention, residual stream and MLP dropped", "",
        _DENSE | {"dense_mode": "clearclip", "short_side": 448, "window": 448, "stride": 224, "pad_windows": True}
        | {"logit_scale": 50.0, "background_threshold": 0.5}, "Lan et al., ECCV 2024, arXiv 2407.12442",
    ),
    Entry(
        "naclip", "k-k attention with a Gaussian of the distance, PAMR last", "",
        _DENSE | {"dense_mode": "naclip", "refine": "pamr"}, "Hajimiri et al., WACV 2025, arXiv 2404.08181",
    ),
    Entry(
        "proxyclip", "attention from a second vision model; needs Segmenter(features=...) or --features", "",
        _DENSE | {"dense_mode": "proxy", "window": 336, "stride": 112, "background_threshold": 0.2},
        "Lan et al., ECCV 2024, arXiv 2408.04883",
    ),
    Entry(
        "resclip", "q-k attention of middle blocks mixed half and half into NACLIP's, windows; without its second pass",
        "", _DENSE | {"dense_mode": "naclip", "steps": "correlation", "window": 224, "stride": 112},
        "Yang et al., CVPR 2025, arXiv 2411.15851",
    ),
    Entry(
        "corrclip", "attention inside regions that a second model (--features) merges, votes; regions of grow unless "
        "--regions says sam:REPO as in the paper",
        "", _DENSE | {"dense_mode": "corrclip", "steps": "votes(by=majority)", "regions": "grow", "window": 336}
        | {"stride": 112, "background_threshold": 0.2}, "Zhang et al., ICCV 2025, arXiv 2411.10086",
    ),
    Entry(
        "trident", "as proxyclip, but over the whole picture at once; --refine sam:REPO adds the paper's last step "
        "(sub-pictures are not spliced, SAM's own attention is not read)",
        "", _DENSE | {"dense_mode": "proxy", "background_threshold": 0.2}, "Shi et al., ICCV 2025, arXiv 2411.09219",
    ),
    Entry(
        "textregion", "a token a region in place of patches, votes; regions of grow unless --regions says sam:REPO as "
        "in the paper: points=16, pred_iou=0.6, stability=0.6, nms=0.9",
        "", _DENSE | {"dense_mode": "textregion", "steps": "votes", "regions": "grow", "short_side": 672}
        | {"logit_scale": 50.0}, "Xiao et al., TMLR 2025, arXiv 2505.23769",
    ),
    Entry(
        "matcher", "with examples: regions ranked by how they cover what matches both ways; regions of grow unless "
        "--regions says sam:REPO as in the paper, with any --features",
        "", _EXAMPLES | {"steps": "region_match(kind=matcher), votes"}, "Liu et al., ICLR 2024, arXiv 2305.13310",
    ),
    Entry(
        "gf-sam", "with examples: a graph of points and regions, nothing to set; regions of grow unless --regions says "
        "sam:REPO as in the paper, with any --features",
        "", _EXAMPLES | {"steps": "region_match(kind=gf-sam), votes"}, "Zhang et al., NeurIPS 2024, arXiv 2410.06964",
    ),
)  # fmt: skip
