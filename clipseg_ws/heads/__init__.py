"""Light heads on frozen tokens: their registries. Importing this package imports no torch.

``estimator.SegmentationHead`` is what users hold: fit, predict, save, load. To add a head, a loss, a weighting or a
scheme: one file with the class or function, and one line here; options, help, errors and contract tests follow.
"""

from __future__ import annotations

from clipseg_ws.registry import Entry, registry

_DECODER = {"hidden": 256, "depth": 2, "kernel": 3, "upsample": 4, "dropout": 0.2}

# classes made as class(blocks, width, labels, **parameters): tokens [B, L, D, h, w] -> ``base.HeadOutput``
HEADS = registry(
    Entry("linear", "logistic regression of every patch", "clipseg_ws.heads.linear:LinearHead"),
    Entry("mlp", "an MLP on every patch", "clipseg_ws.heads.decoder:MlpHead",
          {key: value for key, value in _DECODER.items() if key != "kernel"}),
    Entry("decoder", "fused blocks, convolutions, sub-pixel classifier", "clipseg_ws.heads.decoder:DecoderHead",
          _DECODER, "Zhang et al. (WeCLIP), CVPR 2024, arXiv 2406.11189"),
    Entry("ocr", "the decoder with object context", "clipseg_ws.heads.ocr:OcrHead", _DECODER,
          "Yuan et al., ECCV 2020, arXiv 1909.11065"),
)  # fmt: skip

# functions (confidence [B, H, W] in [0, 1], **parameters) -> how much every pixel counts [B, H, W]
WEIGHTINGS = registry(
    Entry("hard", "confidence-guided: pixels from the threshold on", "clipseg_ws.heads.weights:hard",
          {"threshold": 0.95}, "Lin et al. (CLIP-ES), CVPR 2023, arXiv 2212.09506"),
    Entry("soft", "every pixel by a power of its confidence", "clipseg_ws.heads.weights:soft", {"power": 2.0}),
    Entry("none", "every pixel alike: plain cross-entropy", "clipseg_ws.heads.weights:alike"),
)  # fmt: skip

_SUM = "clipseg_ws.heads.losses:weighted_cross_entropy"

# scalar losses; "on" says what a function is called with: "logits" or "coarse": (scores [B, 1+C, H, W], labels, weights
# [B, H, W]); "embedding": (embedding [B, F, h, w], labels, weights [B, h, w], 1+C). "whole": divided by the weights of
# the whole step (normaliser=...), not by those of one part. "weight" is how much it counts where nothing is said
LOSSES = registry(
    Entry("ce", "cross-entropy of the pixels, weighted by confidence", _SUM, about={"on": "logits", "whole": True}),
    Entry("coarse", "the same of an auxiliary classifier, where the head has one (ocr)", _SUM, {"weight": 0.4},
          about={"on": "coarse", "whole": True}),
    Entry("region", "regions of a class alike across pictures", "clipseg_ws.heads.contrast:region_contrast",
          {"weight": 0.0}, about={"on": "embedding"}),
    Entry("prototype", "pixels near the prototype of their class", "clipseg_ws.heads.contrast:prototype_contrast",
          {"weight": 0.0}, "Du et al. (PPC), CVPR 2022, arXiv 2110.07110", about={"on": "embedding"}),
    Entry("boundary", "neighbours differ where their labels do", "clipseg_ws.heads.locality:boundary_loss",
          {"weight": 0.0}, "Chen et al., ECCV 2020", about={"on": "logits"}),
    Entry("local", "cross-entropy of the neighbours' merged distribution",
          "clipseg_ws.heads.locality:locally_adaptive_loss", {"weight": 0.0}, "Guo et al., 2018, arXiv 1802.08290",
          about={"on": "logits"}),
)  # fmt: skip

# functions (course, **parameters) -> the trained ``SegmentationHead``. "stay": views must stay the same between visits;
# "plain": only pictures as they are; "reads": what of the ``Course`` must be there
SCHEMES = registry(
    Entry("plain", "learn the masks as they are", "clipseg_ws.heads.course:fit_plain"),
    Entry("consistency", "uncertain patches masked and recovered", "clipseg_ws.heads.consistency:fit_consistent",
          {"low": 0.3, "high": 0.9, "share": 0.5, "weight": 0.2}, "FSR, AAAI 2024"),
    Entry("rounds", "the head relabels what it is sure of, then learns anew", "clipseg_ws.heads.rounds:fit_rounds",
          {"rounds": 2, "sure": 0.8}, "Wang et al. (MCOF), CVPR 2018", about={"stay": True}),
    Entry("cotrain", "two heads teach each other on pictures without masks", "clipseg_ws.heads.cotrain:fit_pair",
          {"rounds": 2, "sure": 0.8}, about={"stay": True, "reads": "unlabelled"}),
    Entry("cycle", "pictures without masks join where mask -> prototypes -> mask -> back closes",
          "clipseg_ws.heads.cycle:fit_cycle", {"agree": 0.7, "tries": 3}, "Mittal et al., TPAMI 2021, arXiv 1908.05724",
          about={"stay": True, "reads": "unlabelled"}),
    Entry("feedback", "masks made again along the head's own affinity", "clipseg_ws.heads.feedback:fit_fed_back",
          {"rounds": 2, "blocks": 6}, "Zhang et al. (WeCLIP), CVPR 2024, arXiv 2406.11189",
          about={"plain": True, "reads": "feed_back"}),
    Entry("incremental", "classes added to an old head, which is distilled", "clipseg_ws.heads.incremental:fit_added",
          paper="Cermelli et al. (WILSON), CVPR 2022, arXiv 2112.01882", about={"reads": "old"}),
)  # fmt: skip
