"""Planes, similarity and Adam as torch operators: `torch.ops.gaussianmri.render_planes`, `render_planes_backward`, `ssim`,
`adam_`.

Importing this module registers them, once per process.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..support.backend import kernels
from ..support.operators import check_tensor, plain, plain_arguments, register
from . import reference
from .arguments import AdamStep, Implementation, PlaneScene, check_shapes, pixel_count

_SCENE = (
    "Tensor parameters, Tensor frames, Tensor shapes, Tensor offsets, Tensor weights, float background, float cut"
)


def _implementation(device: torch.device) -> Implementation:
    if device.type == "cuda":
        from ..support.cuda_launch import launcher
        from .cuda import CudaPlanes

        return CudaPlanes(launcher())
    library = kernels()
    if library is None:
        return reference
    from .cpu import CpuPlanes

    return CpuPlanes(library)


def _checked(device: torch.device, scene: PlaneScene) -> PlaneScene:
    scene.check(device)
    return plain_arguments(scene)


def _render(device: torch.device, *arguments: Any) -> tuple[Tensor, ...]:
    return _implementation(device).render_planes(_checked(device, PlaneScene(*arguments)))


def _fake_render(*arguments: Any) -> tuple[Tensor, ...]:
    scene = PlaneScene(*arguments)
    total = torch.library.get_ctx().new_dynamic_size()  # the number of pixels is in the values of `shapes`
    sizes = ((total,), (scene.offsets.shape[1], total), (scene.offsets.shape[1], total))
    return tuple(scene.parameters.new_empty(size) for size in sizes)


def _save_render(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.background, ctx.cut = inputs
    ctx.save_for_backward(output[1], output[2], *tensors)
    ctx.mark_non_differentiable(output[1], output[2])


def _render_gradient(ctx: Any, grad_image: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    gradient = torch.ops.gaussianmri.render_planes_backward(grad_image, *saved, ctx.background, ctx.cut)
    return gradient, *(None,) * 6


register(
    f"render_planes({_SCENE}) -> (Tensor, Tensor, Tensor)",
    _render, _fake_render, gradient=_render_gradient, save=_save_render,
)  # fmt: skip


def _render_backward(
    device: torch.device, grad_image: Tensor, samples: Tensor, density: Tensor, *arguments: Any
) -> Tensor:
    scene = _checked(device, PlaneScene(*arguments))
    total, count = scene.total, scene.offsets.shape[1]
    check_tensor("grad_image", grad_image, (total,), torch.float32, device)
    check_tensor("samples", samples, (count, total), torch.float32, device)
    check_tensor("density", density, (count, total), torch.float32, device)
    given = (plain(grad_image), plain(samples), plain(density))
    return _implementation(device).render_planes_backward(*given, scene)


def _fake_render_backward(
    grad_image: Tensor, samples: Tensor, density: Tensor, parameters: Tensor, *_: Any
) -> Tensor:
    return torch.empty_like(parameters, memory_format=torch.contiguous_format)


register(
    f"render_planes_backward(Tensor grad_image, Tensor samples, Tensor density, {_SCENE}) -> Tensor",
    _render_backward, _fake_render_backward,
)  # fmt: skip


def _ssim(device: torch.device, image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    check_shapes(shapes)
    for name, tensor in (("image", image), ("target", target)):
        check_tensor(name, tensor, (pixel_count(shapes),), torch.float32, device)
    return _implementation(device).ssim(plain(image), plain(target), plain(shapes))


def _fake_ssim(image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    return image.new_empty(shapes.shape[0]), torch.empty_like(image, memory_format=torch.contiguous_format)


def _save_ssim(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], inputs[2])
    ctx.mark_non_differentiable(output[1])


def _ssim_gradient(ctx: Any, grad_mean: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    gradient, shapes = ctx.saved_tensors
    counts = (shapes[:, 0].long() * shapes[:, 1].long()).to(gradient.device)
    return gradient * torch.repeat_interleave(grad_mean, counts, output_size=gradient.shape[0]), None, None


register(
    "ssim(Tensor image, Tensor target, Tensor shapes) -> (Tensor, Tensor)",
    _ssim, _fake_ssim, gradient=_ssim_gradient, save=_save_ssim,
)  # fmt: skip


def _adam(device: torch.device, *arguments: Any) -> None:
    step = AdamStep(*arguments)
    step.check(device)
    step = replace(step, rates=step.rates.to(step.parameters.device), modes=step.modes.to(step.parameters.device))
    _implementation(device).adam_(plain_arguments(step))


def _fake_adam(*_: Any) -> None:
    return None


register(
    "adam_(Tensor(a!) parameters, Tensor grad, Tensor(b!) m, Tensor(c!) v, Tensor rates, Tensor modes, "
    "int step, float beta1, float beta2, float eps) -> ()",
    _adam, _fake_adam,
)  # fmt: skip
