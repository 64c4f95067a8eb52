"""Which splats a clip plane leaves visible: by a step at their means, or at means moved by a learned offset."""

from __future__ import annotations

import torch
from torch import Tensor

from .clip import ClipPlane

VISIBILITIES = ("analytic", "learned", "hard", "none")
"""analytic: the rasteriser cuts each splat where the plane cuts it; learned: learnable truncation; hard: hard
truncation; none: the plane does not hide anything by itself."""

THRESHOLD = 0.5
"""epsilon of the learnable truncation: with 0.5 a splat without an offset is visible where its mean is."""


def kept_depth(means: Tensor, plane: ClipPlane, unit: float) -> Tensor:
    """(N,) d - n . mu in units of `unit` mm: positive where `means` (N, 3) lie on the kept side."""
    normal = torch.tensor(plane.normal.tolist(), dtype=means.dtype, device=means.device)
    return (plane.offset - means @ normal) / unit


def hard_truncation(means: Tensor, plane: ClipPlane) -> Tensor:
    """(N,) 0 or 1: n . mu < d ("ClipGS", eq. 3)."""
    return (kept_depth(means, plane, 1.0) > 0).to(means.dtype)


def learnable_truncation(
    means: Tensor, offsets: Tensor, plane: ClipPlane, unit: float, *, width: float = 1.0
) -> Tensor:
    """(N,) 0 or 1 with the gradient of a sigmoid ("ClipGS", eq. 4): v = sigmoid((d + delta - n . mu) / width) > epsilon.

    The straight-through estimator stopgrad(1[v > epsilon] - v) + v: the value is the step's, the gradient the
    sigmoid's, and it goes to the offsets alone, not to the means.

    Args:
        means: (N, 3) RAS mm.
        offsets: (N,) delta, in units of `unit` mm.
        unit: mm, half the edge of the cube that holds the scene.
        width: of the sigmoid, in units of `unit`. With 1, as the paper writes it, every splat of the scene gets a gradient;
            a narrow one leaves it to those that the plane touches, whose visibility is in question.
    """
    v = torch.sigmoid((kept_depth(means.detach(), plane, unit) + offsets) / width)
    return ((v > THRESHOLD).to(v.dtype) - v).detach() + v
