"""The lattice as torch operators, `torch.ops.gaussianmri.lattice_render`, `lattice_render_backward`, `lattice_smooth`.

Importing this module registers them, once per process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..backend import kernels
from ..ops import _check, _check_planes, _check_tensor
from . import reference

_SIDE = reference.SIDE
_PLANES = (
    "Tensor table, Tensor ras_to_node, Tensor frames, Tensor shapes, Tensor offsets, Tensor weights, "
    "float background"
)

_library = torch.library.Library("gaussianmri", "FRAGMENT")
_library.define(f"lattice_render(Tensor nodes, {_PLANES}) -> (Tensor, Tensor)")
_library.define(f"lattice_render_backward(Tensor grad_image, {_PLANES}, SymInt brick_count) -> Tensor")
_library.define(
    "lattice_smooth(Tensor nodes, Tensor reference, Tensor table, float[] scales, float edge) -> Tensor"
)


def _check_lattice(table: Tensor, bricks: int, device: str) -> None:
    _check_tensor("table", table, (None, None, None), torch.int32, device)
    _check(bricks >= 0, f"there cannot be {bricks} bricks.")
    if device == "cpu" and kernels() is not None:
        return  # the kernels look themselves
    named = table[table >= 0]
    beyond = bool((table < -1).any()) or bool((named >= bricks).any())
    _check(not beyond, "the table names a brick that there is not.")
    _check(len(named.unique()) == len(named), "the table names a brick twice.")


class CpuLattice:
    """The compiled kernels, or the reference where there are none, on CPU tensors that have been checked."""

    def render(self, nodes: Tensor, *planes: Any) -> tuple[Tensor, Tensor]:
        """Image and density."""
        library = kernels()
        if library is None:
            return reference.lattice_render(nodes, *planes)
        total = int(planes[3].long().prod(1).sum())
        image, density = torch.empty(total), torch.empty(total)
        given = (nodes.data_ptr(), nodes.shape[0], *_arguments(planes))
        library._call("gaussianmri_lattice_render", *given, image.data_ptr(), density.data_ptr())
        return image, density

    def render_backward(self, grad_image: Tensor, *planes: Any, brick_count: int) -> Tensor:
        """Gradient by the nodes."""
        library = kernels()
        if library is None:
            arguments: list[Any] = [grad_image, *planes, brick_count]
            return reference.lattice_render_backward(*arguments)
        gradient = torch.empty(brick_count, _SIDE, _SIDE, _SIDE)
        given = (grad_image.data_ptr(), brick_count, *_arguments(planes))
        library._call("gaussianmri_lattice_render_backward", *given, gradient.data_ptr())
        return gradient

    def smooth(
        self, nodes: Tensor, guide: Tensor, table: Tensor, scales: Sequence[float], edge: float
    ) -> Tensor:
        """The smoothness prior's gradient."""
        library = kernels()
        if library is None:
            return reference.lattice_smooth(nodes, guide, table, scales, edge)
        out = torch.empty_like(nodes)
        library._call(
            "gaussianmri_lattice_smooth", nodes.data_ptr(), guide.data_ptr(), nodes.shape[0], table.data_ptr(),
            _size(table), (ctypes.c_float * 3)(*scales), edge, torch.get_num_threads(), out.data_ptr(),
        )  # fmt: skip
        return out


def _size(table: Tensor) -> ctypes.Array[ctypes.c_int32]:
    """Cells along x, y, z."""
    return (ctypes.c_int32 * 3)(*table.shape[::-1])


def _arguments(planes: tuple[Any, ...]) -> tuple[object, ...]:
    """The C interface's arguments from table to threads."""
    table, matrix, frames, shapes, offsets, weights, background = planes
    return (
        table.data_ptr(), _size(table), matrix.data_ptr(), frames.data_ptr(), shapes.data_ptr(), offsets.data_ptr(),
        weights.data_ptr(), frames.shape[0], offsets.shape[1], background, torch.get_num_threads(),
    )  # fmt: skip


def _implementation(device: str) -> Any:
    if device == "cuda":
        from . import cuda

        return cuda.lattice()
    return CpuLattice()


def _render(device: str) -> Any:
    def lattice_render(
        nodes: Tensor, table: Tensor, ras_to_node: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor,
        weights: Tensor, background: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        _check_tensor("nodes", nodes, (None, _SIDE, _SIDE, _SIDE), torch.float32, device)
        _check_lattice(table, nodes.shape[0], device)
        _check_tensor("ras_to_node", ras_to_node, (3, 4), torch.float64, "cpu")
        _check_planes(frames, shapes, offsets, weights, background, device)
        given = (nodes, table, ras_to_node, frames, shapes, offsets, weights)
        tensors = [t.detach().contiguous() for t in given]
        return _implementation(device).render(*tensors, background)

    return lattice_render


def _render_backward(device: str) -> Any:
    def lattice_render_backward(
        grad_image: Tensor, table: Tensor, ras_to_node: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor,
        weights: Tensor, background: float, brick_count: int,
    ) -> Tensor:  # fmt: skip
        _check_lattice(table, brick_count, device)
        _check_tensor("ras_to_node", ras_to_node, (3, 4), torch.float64, "cpu")
        total = _check_planes(frames, shapes, offsets, weights, background, device)
        _check_tensor("grad_image", grad_image, (total,), torch.float32, device)
        given = (grad_image, table, ras_to_node, frames, shapes, offsets, weights)
        tensors = [t.detach().contiguous() for t in given]
        return _implementation(device).render_backward(*tensors, background, brick_count=brick_count)

    return lattice_render_backward


def _smooth(device: str) -> Any:
    def lattice_smooth(
        nodes: Tensor, reference: Tensor, table: Tensor, scales: Sequence[float], edge: float
    ) -> Tensor:
        _check_tensor("nodes", nodes, (None, _SIDE, _SIDE, _SIDE), torch.float32, device)
        _check_tensor("reference", reference, tuple(nodes.shape), torch.float32, device)
        _check_lattice(table, nodes.shape[0], device)
        _check(len(scales) == 3, f"scales must be three numbers (x, y, z), got {len(scales)}.")
        _check(edge == 0 or 1e-15 <= edge <= 1e15, f"edge must be 0, or 1e-15 to 1e15, got {edge}.")
        tensors = [t.detach().contiguous() for t in (nodes, reference, table)]
        return _implementation(device).smooth(*tensors, list(scales), edge)

    return lattice_smooth


for _device in ("cpu", "cuda"):
    _library.impl("lattice_render", _render(_device), _device.upper())
    _library.impl("lattice_render_backward", _render_backward(_device), _device.upper())
    _library.impl("lattice_smooth", _smooth(_device), _device.upper())


@torch.library.register_fake("gaussianmri::lattice_render", lib=_library)
def _fake_render(
    nodes: Tensor, table: Tensor, ras_to_node: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor,
    weights: Tensor, background: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    total = torch.library.get_ctx().new_dynamic_size()  # the number of pixels is in the values of `shapes`
    return nodes.new_empty(total), nodes.new_empty(total)


@torch.library.register_fake("gaussianmri::lattice_render_backward", lib=_library)
def _fake_render_backward(
    grad_image: Tensor, table: Tensor, ras_to_node: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor,
    weights: Tensor, background: float, brick_count: int,
) -> Tensor:  # fmt: skip
    return grad_image.new_empty(brick_count, _SIDE, _SIDE, _SIDE)


@torch.library.register_fake("gaussianmri::lattice_smooth", lib=_library)
def _fake_smooth(
    nodes: Tensor, reference: Tensor, table: Tensor, scales: Sequence[float], edge: float
) -> Tensor:
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


for _name, _gradient, _save in (
    ("lattice_render", _render_gradient, _save_render),
    ("lattice_render_backward", _render_backward_gradient, _save_render_backward),
    ("lattice_smooth", _smooth_gradient, _save_smooth),
):
    torch.library.register_autograd(
        f"gaussianmri::{_name}", _gradient, setup_context=_save, lib=_library
    )
