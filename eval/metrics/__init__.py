"""Scores of label maps: sums over a whole set, so that order, resuming and merging never change a number."""

from clipseg_ws.eval.metrics.confusion import ConfusionMatrix

__all__ = ["ConfusionMatrix"]
