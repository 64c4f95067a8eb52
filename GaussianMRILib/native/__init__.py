"""The kernels: rendering of Gaussians on planes with its gradient, structural similarity, Adam, and lattices of Gaussians.

Each is a torch operator `torch.ops.gaussianmri.*`, implemented by a compiled library, or where there is none
by the reference implementation in plain torch; `backend()` says which. Tensors are float32; Gaussians and
planes may be on the CPU or on a CUDA device, `shapes` is always on the CPU.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..interruption import checkpoint
from .support.backend import BackendInfo, backend
from .support.build import cache_folder, source_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = [
    "CUT",
    "BackendInfo",
    "adam_",
    "backend",
    "cache_folder",
    "lattice_render",
    "lattice_render_backward",
    "lattice_smooth",
    "render_planes",
    "render_planes_backward",
    "source_root",
    "ssim",
]

CUT = 7.814728
"""Squared Mahalanobis radius that holds 95 % of a 3D Gaussian (chi-squared with three degrees of freedom)."""


def _single_threaded_child() -> None:
    """In a forked process: OpenMP's threads stayed in the parent, and torch would wait for them for ever."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_single_threaded_child)


def _ops():  # type: ignore[no-untyped-def]
    checkpoint()  # each kernel is a step of what called it
    import torch

    from .lattice import operators  # noqa: F401  registers them
    from .planes import operators as of_planes  # noqa: F401

    return torch.ops.gaussianmri


def render_planes(
    parameters: Tensor,
    frames: Tensor,
    shapes: Tensor,
    offsets: Tensor,
    weights: Tensor,
    background: float,
    cut: float = CUT,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render Gaussians on planes: I(x) = sum w c / (sum w + background), averaged over samples along the
    normal.

    w = a exp(-q/2) where q = |M (x - m)|^2 < cut, else 0 (Gaussian splatting of MRI slices, eqs. 1-2).

    Args:
        parameters: (11, N) float32, rows: mean x y z (mm, RAS), M00 M01 M02 M11 M12 M22 (1/mm), colour,
            amplitude.
        frames: (P, 12) float32: RAS of pixel (0, 0), step per column, step per row, unit normal (mm).
        shapes: (P, 2) int32 on the CPU: rows, columns.
        offsets: (P, Q) float32, mm along the normal.
        weights: (P, Q) float32, of the samples (they should sum to 1).
        background: amplitude of the black background, >= 0.
        cut: largest q that counts, up to 62.

    Returns:
        image (total), samples (Q, total): I at each sample, density (Q, total): sum w + background; total is
        the number of pixels of all planes, which follow one another, row-major. The image is differentiable
        with respect to `parameters`; samples and density are not. Without Gaussian and background a pixel is
        0. A Gaussian with a non-finite value, a singular M or an amplitude <= 0 adds nothing.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value.
    """
    image, samples, density = _ops().render_planes(
        parameters, frames, shapes, offsets, weights, background, cut
    )
    return image, samples, density


def render_planes_backward(
    grad_image: Tensor,
    samples: Tensor,
    density: Tensor,
    parameters: Tensor,
    frames: Tensor,
    shapes: Tensor,
    offsets: Tensor,
    weights: Tensor,
    background: float,
    cut: float = CUT,
) -> Tensor:
    """Gradient (11, N) of sum(grad_image * image) with respect to the parameters, without an autograd graph.

    `samples` and `density` are those that `render_planes` returned for the same arguments. Gaussians that
    were not drawn get 0.
    """
    planes = (parameters, frames, shapes, offsets, weights, background, cut)
    gradient: Tensor = _ops().render_planes_backward(grad_image, samples, density, *planes)
    return gradient


def ssim(image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean structural similarity of each plane and its gradient (Wang et al. 2004).

    11 x 11 Gaussian window of sigma 1.5 pixels, data range 1; at the borders the weights outside are dropped
    and the rest renormalised, so every size works.

    Args:
        image, target: (total,) float32, planes one after another.
        shapes: (P, 2) int32 on the CPU: rows, columns.

    Returns:
        mean (P), NaN for an empty plane, and gradient (total): d mean_p / d image at plane p's pixels. The
        mean is differentiable with respect to `image`.
    """
    mean, gradient = _ops().ssim(image, target, shapes)
    return mean, gradient


def adam_(
    parameters: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    rates: Tensor,
    modes: Tensor,
    step: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> None:
    """One step of Adam (Kingma & Ba 2015), in place on parameters, m and v (R, N).

    Args:
        grad: (R, N), with respect to the parameters themselves in every mode. Entries whose gradient or step
            is not finite are left as they were.
        rates: (R,) float32 learning rate per row.
        modes: (R,) int32 per row: 0 plain; 1 positive values, stepped in their logarithm; 2 values in (0, 1),
            stepped in their logit.
        step: number of this step, from 1.
    """
    _ops().adam_(parameters, grad, m, v, rates, modes, step, beta1, beta2, eps)


def lattice_render(
    nodes: Tensor,
    table: Tensor,
    ras_to_node: Tensor,
    frames: Tensor,
    shapes: Tensor,
    offsets: Tensor,
    weights: Tensor,
    background: float = 1e-4,
) -> tuple[Tensor, Tensor]:
    """Render a lattice of Gaussians of one shape on planes: I(u) = sum w c / (sum w + background), averaged over
    samples along the normal.

    Node (x, y, z) weighs w = e(ux - x) e(uy - y) e(uz - z) at a point u of lattice coordinates, with
    e(d) = exp(-d^2 / (2 * 0.6^2)), where it is among the 4 x 4 x 4 nodes floor(u) - 1 .. floor(u) + 2, else 0.

    Args:
        nodes: (B, 8, 8, 8) float32: colours [z][y][x] of the nodes of B bricks.
        table: (bz, by, bx) int32 on the nodes' device: the brick of each cell of 8 x 8 x 8 nodes, -1 where there
            is none. Node (x, y, z) is nodes[table[z // 8, y // 8, x // 8], z % 8, y % 8, x % 8]. Nodes outside
            the table or without a brick do not exist. No brick may be named twice.
        ras_to_node: (3, 4) float64 on the CPU: RAS millimetres to lattice coordinates x, y, z.
        frames, shapes, offsets, weights: planes, as for `render_planes`.
        background: weight of the black background, >= 0.

    Returns:
        image (total) and density (total): sum w averaged in the same way, without background; both 0 where no
        node reaches. The image is differentiable with respect to `nodes`, in which it is linear.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value.
    """
    planes = (table, ras_to_node, frames, shapes, offsets, weights, background)
    image, density = _ops().lattice_render(nodes, *planes)
    return image, density


def lattice_render_backward(
    grad_image: Tensor,
    table: Tensor,
    ras_to_node: Tensor,
    frames: Tensor,
    shapes: Tensor,
    offsets: Tensor,
    weights: Tensor,
    background: float,
    brick_count: int,
) -> Tensor:
    """Gradient (brick_count, 8, 8, 8) of sum(grad_image * image) with respect to the nodes of `lattice_render`: its
    exact adjoint, without an autograd graph. Bricks that the table does not name get 0.
    """
    planes = (table, ras_to_node, frames, shapes, offsets, weights, background)
    gradient: Tensor = _ops().lattice_render_backward(grad_image, *planes, brick_count)
    return gradient


def lattice_smooth(
    nodes: Tensor, reference: Tensor, table: Tensor, scales: Sequence[float], edge: float
) -> Tensor:
    """Gradient of a smoothness prior that keeps edges: out_n = sum over the up to six neighbours m along the axes of
    s^2 w (nodes_n - nodes_m), w = edge / sqrt((s (reference_n - reference_m))^2 + edge^2).

    With `reference` equal to `nodes` it is the gradient of sum over pairs of
    edge (sqrt((s (nodes_n - nodes_m))^2 + edge^2) - edge); with a fixed one it is linear, symmetric and positive
    semi-definite (a step of reweighted least squares), and differentiable with respect to `nodes`.

    Args:
        nodes, reference: (B, 8, 8, 8) float32.
        table: (bz, by, bx) int32, as for `lattice_render`; neighbours that do not exist pull nothing.
        scales: s along x, y, z: 1 / pitch in mm makes differences slopes.
        edge: slope (unit of colour times scale) beyond which a difference counts as an edge; 0: w = 1 everywhere.

    Returns:
        (B, 8, 8, 8); 0 for bricks that the table does not name.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value.
    """
    out: Tensor = _ops().lattice_smooth(nodes, reference, table, list(scales), edge)
    return out
