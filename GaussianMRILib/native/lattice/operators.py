"""The lattice as torch operators, `torch.ops.gaussianmri.lattice_render`, `lattice_render_backward`, `lattice_smooth`.

Importing this module registers them, once per process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..support.backend import kernels
from ..support.operators import check, check_tensor, plain, plain_arguments, register
from . import reference
from .arguments import SIDE, Implementation, LatticePlanes, check_names, check_table

_PLANES = (
    "Tensor table, Tensor ras_to_node, Tensor frames, Tensor shapes, Tensor offsets, Tensor weights, "
    "float background"
)


def _implementation(device: torch.device) -> Implementation:
    if device.type == "cuda":
        from ..support.cuda_launch import launcher
        from .cuda import CudaLattice

        return CudaLattice(launcher())
    library = kernels()
    if library is None:
        return reference
    from .cpu import CpuLattice

    return CpuLattice(library)


def _check_names(table: Tensor, bricks: int, device: torch.device) -> None:
    if device.type == "cuda" or kernels() is None:  # the compiled library looks itself
        check_names(table, bricks)


def _checked(device: torch.device, planes: LatticePlanes, bricks: int) -> LatticePlanes:
    planes.check(bricks, device)
    _check_names(planes.table, bricks, device)
    return plain_arguments(planes)


def _render(device: torch.device, nodes: Tensor, *planes: Any) -> tuple[Tensor, Tensor]:
    check_tensor("nodes", nodes, (None, SIDE, SIDE, SIDE), torch.float32, device)
    checked = _checked(device, LatticePlanes(*planes), nodes.shape[0])
    return _implementation(device).lattice_render(plain(nodes), checked)


def _fake_render(nodes: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    total = torch.library.get_ctx().new_dynamic_size()  # the number of pixels is in the values of `shapes`
    return nodes.new_empty(total), nodes.new_empty(total)


def _render_backward(device: torch.device, grad_image: Tensor, *planes: Any) -> Tensor:
    *rest, brick_count = planes
    checked = _checked(device, LatticePlanes(*rest), brick_count)
    check_tensor("grad_image", grad_image, (checked.total,), torch.float32, device)
    return _implementation(device).lattice_render_backward(plain(grad_image), checked, brick_count)


def _fake_render_backward(grad_image: Tensor, *planes: Any) -> Tensor:
    return grad_image.new_empty(planes[-1], SIDE, SIDE, SIDE)


def _smooth(
    device: torch.device, nodes: Tensor, reference: Tensor, table: Tensor, scales: Sequence[float], edge: float
) -> Tensor:
    check_tensor("nodes", nodes, (None, SIDE, SIDE, SIDE), torch.float32, device)
    check_tensor("reference", reference, tuple(nodes.shape), torch.float32, device)
    check_table(table, nodes.shape[0], device)
    _check_names(table, nodes.shape[0], device)
    check(len(scales) == 3, f"scales must be three numbers (x, y, z), got {len(scales)}.")
    check(edge == 0 or 1e-15 <= edge <= 1e15, f"edge must be 0, or 1e-15 to 1e15, got {edge}.")
    given = (plain(nodes), plain(reference), plain(table))
    return _implementation(device).lattice_smooth(*given, list(scales), edge)


def _fake_smooth(nodes: Tensor, *_: Any) -> Tensor:
    return nodes.new_empty(nodes.shape)


# The image is linear in the nodes, and the smoothness prior's gradient linear and symmetric: each operator's gradient
# is another one of them, to any order.


def _save_render(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    nodes, *planes, ctx.background = inputs
    ctx.bricks = nodes.shape[0]
    ctx.save_for_backward(*planes)
    ctx.mark_non_differentiable(output[1])


def _render_gradient(ctx: Any, grad_image: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradient = torch.ops.gaussianmri.lattice_render_backward(
        grad_image, *ctx.saved_tensors, ctx.background, ctx.bricks
    )
    return (gradient, *(None,) * 7)


def _save_render_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *planes, ctx.background, _ = inputs
    ctx.save_for_backward(*planes)


def _render_backward_gradient(ctx: Any, grad_nodes: Tensor) -> tuple[Tensor | None, ...]:
    image, _ = torch.ops.gaussianmri.lattice_render(grad_nodes, *ctx.saved_tensors, ctx.background)
    return (image, *(None,) * 8)


def _save_smooth(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, guide, table, ctx.scales, ctx.edge = inputs
    ctx.save_for_backward(guide, table)


def _smooth_gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    gradient = torch.ops.gaussianmri.lattice_smooth(grad, *ctx.saved_tensors, ctx.scales, ctx.edge)
    return gradient, None, None, None, None


register(
    f"lattice_render(Tensor nodes, {_PLANES}) -> (Tensor, Tensor)",
    _render, _fake_render, gradient=_render_gradient, save=_save_render,
)  # fmt: skip
register(
    f"lattice_render_backward(Tensor grad_image, {_PLANES}, SymInt brick_count) -> Tensor",
    _render_backward, _fake_render_backward, gradient=_render_backward_gradient, save=_save_render_backward,
)  # fmt: skip
register(
    "lattice_smooth(Tensor nodes, Tensor reference, Tensor table, float[] scales, float edge) -> Tensor",
    _smooth, _fake_smooth, gradient=_smooth_gradient, save=_save_smooth,
)  # fmt: skip
