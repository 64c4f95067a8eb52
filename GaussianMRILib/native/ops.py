"""Registration of the kernels as torch operators `torch.ops.gaussianmri.*`: schema, CPU, CUDA, fake kernels,
autograd.

Importing this module registers them, once per process.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import reference
from .backend import kernels

_ROWS = 11

_library = torch.library.Library("gaussianmri", "DEF")
_library.define(
    "render_planes(Tensor parameters, Tensor frames, Tensor shapes, Tensor offsets, Tensor weights, "
    "float background, float cut) -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "render_planes_backward(Tensor grad_image, Tensor samples, Tensor density, Tensor parameters, "
    "Tensor frames, Tensor shapes, Tensor offsets, Tensor weights, float background, float cut) -> Tensor"
)
_library.define("ssim(Tensor image, Tensor target, Tensor shapes) -> (Tensor, Tensor)")
_library.define(
    "adam_(Tensor(a!) parameters, Tensor grad, Tensor(b!) m, Tensor(c!) v, Tensor rates, Tensor modes, "
    "int step, float beta1, float beta2, float eps) -> ()"
)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_tensor(
    name: str, tensor: Tensor, shape: tuple[int | None, ...], dtype: torch.dtype, device: str
) -> None:
    """Complain unless the tensor has this shape (None: any size), dtype, and kind of device."""
    expected = "(" + ", ".join("*" if size is None else str(size) for size in shape) + ")"
    fits = tensor.dim() == len(shape) and all(
        want is None or want == have for want, have in zip(shape, tensor.shape, strict=True)
    )
    _check(fits, f"{name} must have the shape {expected}, got {tuple(tensor.shape)}.")
    _check(tensor.dtype == dtype, f"{name} must be {dtype}, got {tensor.dtype}.")
    _check(tensor.device.type == device, f"{name} must be on {device}, got {tensor.device}.")


def _check_scene(
    parameters: Tensor,
    frames: Tensor,
    shapes: Tensor,
    offsets: Tensor,
    weights: Tensor,
    background: float,
    cut: float,
    device: str,
) -> int:
    """Check the arguments that describe Gaussians and planes; returns the number of pixels."""
    _check_tensor("parameters", parameters, (_ROWS, None), torch.float32, device)
    _check(0 < cut <= 62, f"cut must lie above 0 and up to 62, got {cut}.")
    return _check_planes(frames, shapes, offsets, weights, background, device)


def _check_planes(
    frames: Tensor, shapes: Tensor, offsets: Tensor, weights: Tensor, background: float, device: str
) -> int:
    """Check the arguments that describe planes; returns the number of pixels."""
    planes = frames.shape[0] if frames.dim() else 0
    _check_tensor("frames", frames, (planes, 12), torch.float32, device)
    _check_tensor("offsets", offsets, (planes, None), torch.float32, device)
    _check_tensor("weights", weights, (planes, offsets.shape[1]), torch.float32, device)
    _check(offsets.shape[1] >= 1, "offsets must have at least one sample per plane.")
    _check(background >= 0 and background < float("inf"), f"background must be 0 or more, got {background}.")
    return _check_shapes(shapes, planes)


def _check_shapes(shapes: Tensor, planes: int | None = None) -> int:
    _check_tensor("shapes", shapes, (planes, 2), torch.int32, "cpu")
    _check(bool((shapes >= 0).all()), "shapes must not be negative.")
    return int(shapes.long().prod(1).sum())


def _check_result(total: int, count: int, device: str, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        shape = (total,) if name == "grad_image" else (count, total)
        _check_tensor(name, tensor, shape, torch.float32, device)


def _implementation(device: str) -> Any:
    if device == "cuda":
        from . import cuda

        return cuda
    return kernels() or reference


def _render_planes(device: str) -> Any:
    def render_planes(
        parameters: Tensor,
        frames: Tensor,
        shapes: Tensor,
        offsets: Tensor,
        weights: Tensor,
        background: float,
        cut: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        _check_scene(parameters, frames, shapes, offsets, weights, background, cut, device)
        tensors = [t.detach().contiguous() for t in (parameters, frames, shapes, offsets, weights)]
        return _implementation(device).render_planes(*tensors, background, cut)

    return render_planes


def _render_planes_backward(device: str) -> Any:
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
        cut: float,
    ) -> Tensor:
        total = _check_scene(parameters, frames, shapes, offsets, weights, background, cut, device)
        _check_result(
            total, offsets.shape[1], device, grad_image=grad_image, samples=samples, density=density
        )
        given = (grad_image, samples, density, parameters, frames, shapes, offsets, weights)
        tensors = [t.detach().contiguous() for t in given]
        return _implementation(device).render_planes_backward(*tensors, background, cut)

    return render_planes_backward


def _ssim(device: str) -> Any:
    def ssim(image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
        total = _check_shapes(shapes)
        _check_tensor("image", image, (total,), torch.float32, device)
        _check_tensor("target", target, (total,), torch.float32, device)
        tensors = [t.detach().contiguous() for t in (image, target, shapes)]
        return _implementation(device).ssim(*tensors)

    return ssim


def _adam(device: str) -> Any:
    def adam_(
        parameters: Tensor,
        grad: Tensor,
        m: Tensor,
        v: Tensor,
        rates: Tensor,
        modes: Tensor,
        step: int,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
        _check(parameters.dim() == 2, f"parameters must have two dimensions, got {tuple(parameters.shape)}.")
        shape = tuple(parameters.shape)
        for name, tensor in (("parameters", parameters), ("grad", grad), ("m", m), ("v", v)):
            _check_tensor(name, tensor, shape, torch.float32, device)
        for name, tensor in (("parameters", parameters), ("m", m), ("v", v)):
            _check(tensor.is_contiguous(), f"{name} is updated in place and must be contiguous.")
        _check(modes.dim() == 1 and modes.dtype == torch.int32, "modes must be int32 with one value per row.")
        _check_tensor("rates", rates, (shape[0],), torch.float32, rates.device.type)
        _check_tensor("modes", modes, (shape[0],), torch.int32, modes.device.type)
        _check(step >= 1, f"step counts from 1, got {step}.")
        _check(
            0 <= beta1 < 1 and 0 <= beta2 < 1, f"beta1 and beta2 must lie in [0, 1), got {beta1} and {beta2}."
        )
        rules = (rates.contiguous(), modes.contiguous()) if device == "cuda" else (rates.cpu(), modes.cpu())
        if device == "cpu":
            _check(bool(((rules[1] >= 0) & (rules[1] <= 2)).all()), "modes must be 0, 1 or 2.")
        values = (parameters.detach(), grad.detach().contiguous(), m.detach(), v.detach())
        _implementation(device).adam_(*values, *rules, step, beta1, beta2, eps)

    return adam_


for _device in ("cpu", "cuda"):
    _key = _device.upper()
    _library.impl("render_planes", _render_planes(_device), _key)
    _library.impl("render_planes_backward", _render_planes_backward(_device), _key)
    _library.impl("ssim", _ssim(_device), _key)
    _library.impl("adam_", _adam(_device), _key)


@torch.library.register_fake("gaussianmri::render_planes")
def _fake_render(
    parameters: Tensor,
    frames: Tensor,
    shapes: Tensor,
    offsets: Tensor,
    weights: Tensor,
    background: float,
    cut: float,
) -> tuple[Tensor, Tensor, Tensor]:
    total = torch.library.get_ctx().new_dynamic_size()  # the number of pixels is in the values of `shapes`
    samples = offsets.shape[1]
    return (
        parameters.new_empty(total),
        parameters.new_empty(samples, total),
        parameters.new_empty(samples, total),
    )


@torch.library.register_fake("gaussianmri::render_planes_backward")
def _fake_render_backward(
    grad_image: Tensor,
    samples: Tensor,
    density: Tensor,
    parameters: Tensor,
    frames: Tensor,
    shapes: Tensor,
    offsets: Tensor,
    weights: Tensor,
    background: float,
    cut: float,
) -> Tensor:
    return torch.empty_like(parameters, memory_format=torch.contiguous_format)


@torch.library.register_fake("gaussianmri::ssim")
def _fake_ssim(image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    return image.new_empty(shapes.shape[0]), torch.empty_like(image, memory_format=torch.contiguous_format)


@torch.library.register_fake("gaussianmri::adam_")
def _fake_adam(
    parameters: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    rates: Tensor,
    modes: Tensor,
    step: int,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    return None


def _save_render(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.background, ctx.cut = inputs
    ctx.save_for_backward(output[1], output[2], *tensors)
    ctx.mark_non_differentiable(output[1], output[2])


def _render_gradient(ctx: Any, grad_image: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    gradient = torch.ops.gaussianmri.render_planes_backward(grad_image, *saved, ctx.background, ctx.cut)
    return gradient, None, None, None, None, None, None


def _save_ssim(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], inputs[2])
    ctx.mark_non_differentiable(output[1])


def _ssim_gradient(ctx: Any, grad_mean: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    gradient, shapes = ctx.saved_tensors
    counts = (shapes[:, 0].long() * shapes[:, 1].long()).to(gradient.device)
    return gradient * torch.repeat_interleave(grad_mean, counts, output_size=gradient.shape[0]), None, None


torch.library.register_autograd("gaussianmri::render_planes", _render_gradient, setup_context=_save_render)
torch.library.register_autograd("gaussianmri::ssim", _ssim_gradient, setup_context=_save_ssim)
