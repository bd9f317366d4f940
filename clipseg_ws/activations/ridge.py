"""A linear classifier of every class against the rest, fitted to the supports alone, in closed form.

Ridge regression as the base learner of few-shot learning: Bertinetto et al., "Meta-learning with differentiable
closed-form solvers", ICLR 2019, arXiv 1805.08136 (R2-D2). A mean forgets in which directions a class varies; with
several examples the classifier knows them, with one the penalty keeps it near the difference of the two means.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations.online import Moments


@dataclass(frozen=True, eq=False)
class Ridge:
    """Classifiers of K classes. slope: [K, D]. offset: [K]; the answer to a unit vector x is slope x - offset."""

    slope: Tensor
    offset: Tensor


def fit_ridge(moments: Moments, penalty: Tensor) -> Ridge:
    """Least squares with targets +1 inside a class and -1 outside, both sides counting alike.

    Args:
        moments: of ``online.support_moments``. penalty: [K] positive, times the mean variance of a channel.

    Returns:
        the classifiers; as the penalty grows their slopes turn to the difference of the two means.

    Raises:
        ValueError: a penalty that is not positive.

    Example:
        >>> from clipseg_ws.activations.online import support_moments
        >>> cells = torch.eye(2)
        >>> moments = support_moments(cells, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        >>> ridge_answers(cells.t()[None, :, None], fit_ridge(moments, torch.tensor([0.01]))).flatten().round()
        tensor([ 1., -1.])
    """
    if not bool((penalty > 0).all()):
        raise ValueError(f"penalty={penalty.tolist()}; positive numbers are needed, for example [1.0]")
    centre = (moments.inside + moments.outside) / 2  # [K, D]
    covariance = moments.second - centre[:, :, None] * centre[:, None]
    channel = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-8)
    eye = torch.eye(covariance.shape[-1], device=covariance.device)
    covariance = covariance + (penalty * channel)[:, None, None] * eye
    slope = torch.linalg.solve(covariance, (moments.inside - moments.outside)[..., None] / 2)[..., 0]
    return Ridge(slope, (slope * centre).sum(-1))


def ridge_answers(features: Tensor, ridge: Ridge) -> Tensor:
    """[B, K, h, w] float32, about -1 (rest) to +1 (class), of features [B, D, h, w]."""
    cells = F.normalize(features.float().flatten(2), dim=1)  # [B, D, N]
    return torch.unflatten(ridge.slope @ cells - ridge.offset[:, None], 2, features.shape[2:])
