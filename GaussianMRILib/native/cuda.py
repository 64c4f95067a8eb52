"""The operators for CUDA tensors, and whether they can be had here.

`cuda_operators` decides what is launched, `cuda_launch` compiles and launches it; kernels: csrc/cuda.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import GaussianMRIError
from .cuda_launch import CudaLauncher, cuda_core, source_folder
from .cuda_operators import CudaOperators

_INSTALL = f"pip install cuda-core[cu{(torch.version.cuda or '12').split('.')[0]}]"


@dataclass(frozen=True)
class CudaStatus:
    """Whether CUDA kernels can run here, and if not, why.

    Attributes:
        available: kernels can be compiled and launched.
        reason: one sentence for the user.
        device: name of the current GPU, if any.
    """

    available: bool
    reason: str
    device: str | None = None


def status() -> CudaStatus:
    """Find out whether CUDA kernels can run; the first call on a GPU compiles them (seconds, then cached)."""
    if torch.version.cuda is None and not torch.cuda.is_available():
        return CudaStatus(False, "this torch was built without CUDA")
    if not torch.cuda.is_available():
        return CudaStatus(False, "torch finds no CUDA device")
    index = torch.cuda.current_device()
    name = torch.cuda.get_device_name(index)
    try:
        cuda_core()
        source_folder()
        launcher = _operators().launcher
        assert isinstance(launcher, CudaLauncher)
        launcher.load(index)
    except ImportError as error:
        return CudaStatus(False, f"cuda-core is not installed ({error}): {_INSTALL}", name)
    except Exception as error:
        return CudaStatus(False, str(error), name)
    major, minor = torch.cuda.get_device_capability(index)
    return CudaStatus(True, f"kernels compiled for sm_{major}{minor}", name)


def describe() -> str:
    """`status()` in a sentence."""
    now = status()
    state = "available" if now.available else "not available"
    return f"{state}{f' on {now.device}' if now.device else ''}: {now.reason}"


@functools.cache
def _operators() -> CudaOperators:
    try:
        return CudaOperators(CudaLauncher())
    except ImportError as error:
        raise GaussianMRIError(
            f"Tensors on a GPU need the package cuda-core ({error}): {_INSTALL}, or use the CPU."
        ) from error


def render_planes(
    parameters: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor, weights: Tensor, background: float,
    cut: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`gaussianmri::render_planes` for CUDA tensors; `shapes` on the CPU. See `native.render_planes`."""
    return _operators().render_planes(parameters, frames, shapes, offsets, weights, background, cut)


def render_planes_backward(
    grad_image: Tensor, samples: Tensor, density: Tensor, parameters: Tensor, frames: Tensor, shapes: Tensor,
    offsets: Tensor, weights: Tensor, background: float, cut: float,
) -> Tensor:  # fmt: skip
    """`gaussianmri::render_planes_backward` for CUDA tensors. See `native.render_planes_backward`."""
    return _operators().render_planes_backward(
        grad_image, samples, density, parameters, frames, shapes, offsets, weights, background, cut
    )


def ssim(image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    """`gaussianmri::ssim` for CUDA tensors. See `native.ssim`."""
    return _operators().ssim(image, target, shapes)


def adam_(
    parameters: Tensor, grad: Tensor, m: Tensor, v: Tensor, rates: Tensor, modes: Tensor, step: int,
    beta1: float, beta2: float, eps: float,
) -> None:  # fmt: skip
    """`gaussianmri::adam_` for CUDA tensors. See `native.adam_`."""
    _operators().adam_(parameters, grad, m, v, rates, modes, step, beta1, beta2, eps)
