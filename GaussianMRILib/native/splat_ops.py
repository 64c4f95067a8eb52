"""The rasteriser of splats as torch operators, `torch.ops.gaussianmri.rasterise` and `rasterise_backward`.

Importing this module registers them, once per process.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import splat_reference
from .backend import kernels
from .ops import _check, _check_tensor

_SPLATS = "Tensor means, Tensor quaternions, Tensor scales, Tensor sh, Tensor opacities"

_library = torch.library.Library("gaussianmri", "FRAGMENT")
_library.define(
    f"rasterise({_SPLATS}, Tensor screen, Tensor camera, int width, int height) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "rasterise_backward(Tensor image, Tensor alpha, Tensor depth, Tensor grad_image, Tensor grad_alpha, "
    f"Tensor grad_depth, {_SPLATS}, Tensor camera, int width, int height) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def rasterise(
    means: Tensor, quaternions: Tensor, scales: Tensor, sh: Tensor, opacities: Tensor, screen: Tensor, camera: Tensor,
    width: int, height: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Image (H, W, 3), alpha (H, W), depth (H, W) mm and radii (N) pixels of float32 splats.

    Args:
        means: (N, 3); quaternions (N, 4); scales (N, 3); sh (N, 1 | 4 | 9 | 16, 3); opacities (N,).
        screen: (N, 2), not read: its gradient is that of the splats' places on the screen, in pixels.
        camera: (27,) float32 on the CPU, see `splat_reference`.

    Raises:
        ValueError: an argument has a wrong shape, dtype, device or value.
    """
    image, alpha, depth, radii = torch.ops.gaussianmri.rasterise(
        means, quaternions, scales, sh, opacities, screen, camera, width, height
    )
    return image, alpha, depth, radii


def _check_splats(
    means: Tensor, quaternions: Tensor, scales: Tensor, sh: Tensor, opacities: Tensor, camera: Tensor, width: int,
    height: int, device: str,
) -> None:  # fmt: skip
    count = means.shape[0] if means.dim() else 0
    coefficients = sh.shape[1] if sh.dim() == 3 else 0
    shapes = ((count, 3), (count, 4), (count, 3), (count, coefficients, 3), (count,))
    names = ("means", "quaternions", "scales", "sh", "opacities")
    for name, tensor, shape in zip(names, (means, quaternions, scales, sh, opacities), shapes, strict=True):
        _check_tensor(name, tensor, shape, torch.float32, device)
    _check(coefficients in (1, 4, 9, 16), f"sh must have 1, 4, 9 or 16 coefficients, got {coefficients}.")
    _check_tensor("camera", camera, (splat_reference.CAMERA_SIZE,), torch.float32, "cpu")
    _check(
        1 <= width <= 16384 and 1 <= height <= 16384,
        f"a picture has 1 to 16384 pixels a side, got {width} x {height}.",
    )


class CpuRasteriser:
    """The compiled kernels, or the reference where there are none, on CPU tensors that have been checked."""

    def rasterise(
        self, splats: tuple[Tensor, ...], camera: Tensor, width: int, height: int
    ) -> tuple[Tensor, ...]:
        """Image, alpha, depth and radii."""
        library = kernels()
        if library is None:
            screen = torch.zeros_like(splats[0][:, :2])
            pictures = splat_reference.rasterise(*splats, screen, camera, width, height)  # type: ignore[call-arg, arg-type]
            return tuple(picture.contiguous() for picture in pictures)
        out = (
            torch.empty(height, width, 3),
            *(torch.empty(height, width) for _ in range(2)),
            torch.empty(len(splats[0])),
        )
        library._call(
            "gaussianmri_splat", *_scene(splats, camera, width, height), *(t.data_ptr() for t in out)
        )
        return out

    def rasterise_backward(
        self, images: tuple[Tensor, ...], gradients: tuple[Tensor, ...], splats: tuple[Tensor, ...], camera: Tensor,
        width: int, height: int,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Gradients of means, quaternions, scales, sh, opacities, screen."""
        library = kernels()
        if library is None:
            screen = torch.zeros_like(splats[0][:, :2])
            return splat_reference.rasterise_backward(*gradients, *splats, screen, camera, width, height)  # type: ignore[call-arg, arg-type]
        out = (*(torch.empty_like(t) for t in splats), torch.empty(len(splats[0]), 2))
        given = (t.data_ptr() for t in (*images, *gradients))
        scene = _scene(splats, camera, width, height)
        library._call("gaussianmri_splat_backward", *given, *scene, *(t.data_ptr() for t in out))
        return out


def _scene(splats: tuple[Tensor, ...], camera: Tensor, width: int, height: int) -> tuple[int, ...]:
    """The C interface's arguments from camera to threads."""
    pointers = (t.data_ptr() for t in splats)
    return (camera.data_ptr(), width, height, *pointers, *splats[3].shape[:2], torch.get_num_threads())


def _implementation(device: str) -> Any:
    if device == "cuda":
        from . import splat_cuda

        return splat_cuda.rasteriser()
    return CpuRasteriser()


def _forward(device: str) -> Any:
    def rasterise(
        means: Tensor, quaternions: Tensor, scales: Tensor, sh: Tensor, opacities: Tensor, screen: Tensor,
        camera: Tensor, width: int, height: int,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        splats = (means, quaternions, scales, sh, opacities)
        _check_splats(*splats, camera, width, height, device)
        _check_tensor("screen", screen, (len(means), 2), torch.float32, device)
        given = tuple(t.detach().contiguous() for t in splats)
        return tuple(_implementation(device).rasterise(given, camera.contiguous(), width, height))

    return rasterise


def _backward(device: str) -> Any:
    def rasterise_backward(
        image: Tensor, alpha: Tensor, depth: Tensor, grad_image: Tensor, grad_alpha: Tensor, grad_depth: Tensor,
        means: Tensor, quaternions: Tensor, scales: Tensor, sh: Tensor, opacities: Tensor, camera: Tensor,
        width: int, height: int,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        splats = (means, quaternions, scales, sh, opacities)
        _check_splats(*splats, camera, width, height, device)
        images, gradients = (image, alpha, depth), (grad_image, grad_alpha, grad_depth)
        for name, tensor in zip(("image", "alpha", "depth"), images, strict=True):
            shape = (height, width, 3) if name == "image" else (height, width)
            _check_tensor(name, tensor, shape, torch.float32, device)
        for name, tensor in zip(("grad_image", "grad_alpha", "grad_depth"), gradients, strict=True):
            shape = (height, width, 3) if name == "grad_image" else (height, width)
            _check_tensor(name, tensor, shape, torch.float32, device)
        groups = [tuple(t.detach().contiguous() for t in group) for group in (images, gradients, splats)]
        return tuple(_implementation(device).rasterise_backward(*groups, camera.contiguous(), width, height))

    return rasterise_backward


for _device in ("cpu", "cuda"):
    _library.impl("rasterise", _forward(_device), _device.upper())
    _library.impl("rasterise_backward", _backward(_device), _device.upper())


@torch.library.register_fake("gaussianmri::rasterise")
def _fake_forward(
    means: Tensor, quaternions: Tensor, scales: Tensor, sh: Tensor, opacities: Tensor, screen: Tensor, camera: Tensor,
    width: int, height: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    image = means.new_empty(height, width, 3)
    return image, image.new_empty(height, width), image.new_empty(height, width), means.new_empty(len(means))


@torch.library.register_fake("gaussianmri::rasterise_backward")
def _fake_backward(
    image: Tensor, alpha: Tensor, depth: Tensor, grad_image: Tensor, grad_alpha: Tensor, grad_depth: Tensor,
    means: Tensor, quaternions: Tensor, scales: Tensor, sh: Tensor, opacities: Tensor, camera: Tensor, width: int,
    height: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    like = (means, quaternions, scales, sh, opacities)
    return (*(t.new_empty(t.shape) for t in like), means.new_empty(len(means), 2))


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


torch.library.register_autograd("gaussianmri::rasterise", _gradient, setup_context=_save)
