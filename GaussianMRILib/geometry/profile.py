"""The slice profile: how a thick slice weighs what lies along its normal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Transition of the slice profile from 1 to 0 at each side, mm (a box is not what an excitation pulse makes).
PROFILE_EDGE_MM = 0.6
MOST_SAMPLES = 24


def slice_profile(
    thickness: ArrayLike, step: float, *, edge_mm: float = PROFILE_EDGE_MM
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Samples along the normal that stand for the slice profile, a box with soft edges.

    Args:
        thickness: (P,) mm; 0 is a thin plane.
        step: mm between samples, at most (but never more than 24 samples).
        edge_mm: width of the transition at each side: the box is convolved with a Gaussian whose sigma is half of it.

    Returns:
        Offsets (P, Q) in mm and weights (P, Q), whose rows sum to 1.
    """
    from scipy.special import erf

    thick = np.atleast_1d(np.asarray(thickness, dtype=np.float64))[:, None]
    if not np.any(thick > 0):
        return np.zeros(thick.shape, np.float32), np.ones(thick.shape, np.float32)
    reach = np.where(thick > 0, thick + edge_mm, 0.0)
    count = int(np.clip(np.ceil(reach.max() / step), 3, MOST_SAMPLES))
    offsets = ((np.arange(count) + 0.5) / count - 0.5) * reach
    sigma = max(edge_mm / 2, 1e-6) * np.sqrt(2.0)
    weights = erf((offsets + thick / 2) / sigma) - erf((offsets - thick / 2) / sigma)
    weights = np.where(thick > 0, weights, 1.0)
    return offsets.astype(np.float32), (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
