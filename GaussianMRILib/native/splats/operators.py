"""The rasteriser of splats as torch operators, `torch.ops.gaussianmri.rasterise` and `rasterise_backward`.

Importing this module registers them, once per process.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..support.backend import kernels
from ..support.operators import plain_arguments, register
from . import reference
from .arguments import Implementation, Pictures, SplatScene

_SPLATS = "Tensor means, Tensor quaternions, Tensor scales, Tensor sh, Tensor opacities"


def rasterise(
    means: Tensor, quaternions: Tensor, scales: Tensor, sh: Tensor, opacities: Tensor, screen: Tensor, camera: Tensor,
    width: int, height: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Image (H, W, 3), alpha (H, W), depth (H, W) mm and radii (N) pixels of float32 splats.

    Args:
        means: (N, 3); quaternions (N, 4); scales (N, 3); sh (N, 1 | 4 | 9 | 16, 3); opacities (N,).
        screen: (N, 2), not read: its gradient is that of the splats' places on the screen, in pixels.
        camera: (28,) float32 on the CPU, see `arguments.CAMERA`.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value.
    """
    image, alpha, depth, radii = torch.ops.gaussianmri.rasterise(
        means, quaternions, scales, sh, opacities, screen, camera, width, height
    )
    return image, alpha, depth, radii


def _implementation(device: torch.device) -> Implementation:
    if device.type == "cuda":
        from ..support.cuda_launch import launcher
        from .cuda import CudaSplats

        return CudaSplats(launcher())
    library = kernels()
    if library is None:
        return reference
    from .cpu import CpuSplats

    return CpuSplats(library)


def _checked(device: torch.device, scene: SplatScene) -> SplatScene:
    scene.check(device)
    return plain_arguments(scene)


def _forward(device: torch.device, *arguments: Any) -> tuple[Tensor, ...]:
    return _implementation(device).rasterise(_checked(device, SplatScene(*arguments)))


def _fake_forward(*arguments: Any) -> tuple[Tensor, ...]:
    scene = SplatScene(*arguments)
    size = scene.height, scene.width
    sizes = ((*size, 3), size, size, (len(scene.means),))
    return tuple(scene.means.new_empty(size) for size in sizes)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *splats, _screen, camera, ctx.width, ctx.height = inputs
    ctx.save_for_backward(*output[:3], *splats, camera)
    ctx.mark_non_differentiable(output[3])


def _gradient(
    ctx: Any, grad_image: Tensor, grad_alpha: Tensor, grad_depth: Tensor, _: Tensor
) -> tuple[Tensor | None, ...]:
    image, alpha, depth, *rest = ctx.saved_tensors
    gradients = torch.ops.gaussianmri.rasterise_backward(
        image, alpha, depth, grad_image, grad_alpha, grad_depth, *rest, ctx.width, ctx.height
    )
    return (*gradients, None, None, None)


register(
    f"rasterise({_SPLATS}, Tensor screen, Tensor camera, int width, int height) -> (Tensor, Tensor, Tensor, Tensor)",
    _forward, _fake_forward, gradient=_gradient, save=_save,
)  # fmt: skip


def _backward(device: torch.device, *arguments: Any) -> tuple[Tensor, ...]:
    means, quaternions, scales, sh, opacities, camera, width, height = arguments[6:]
    screen = means.new_zeros(*means.shape[:1], 2)
    splats = (means, quaternions, scales, sh, opacities, screen)
    scene = _checked(device, SplatScene(*splats, camera, width, height))
    drawn, gradients = Pictures(*arguments[:3]), Pictures(*arguments[3:6])
    drawn.check("", width, height, device)
    gradients.check("grad_", width, height, device)
    return _implementation(device).rasterise_backward(plain_arguments(drawn), plain_arguments(gradients), scene)


def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    means, *others = arguments[6:11]
    return (*(t.new_empty(t.shape) for t in (means, *others)), means.new_empty(len(means), 2))


register(
    "rasterise_backward(Tensor image, Tensor alpha, Tensor depth, Tensor grad_image, Tensor grad_alpha, "
    f"Tensor grad_depth, {_SPLATS}, Tensor camera, int width, int height) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward, _fake_backward,
)  # fmt: skip
