"""What the operators of planes take, and what an implementation of them does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..support.operators import CPU, check, check_tensor

ROWS = 11  # of the packed parameters
ENTRY_BITS = 36  # of a packed count

_VECTOR = (np.float32, 3)
#: GmPlane, member by member.
PLANE = np.dtype([(name, *_VECTOR) for name in ("origin", "u", "v", "n", "du", "dv")] + [("area2", np.float32)])
NUMBERS = {"GmPlane": PLANE.itemsize, "kParameterRows": ROWS, "kEntryBits": ENTRY_BITS}


@dataclass(frozen=True)
class PlaneScene:
    """Gaussians and planes; see `GaussianMRILib.native.render_planes`."""

    parameters: Tensor  # (11, N)
    frames: Tensor  # (P, 12)
    shapes: Tensor  # (P, 2) int32, on the CPU
    offsets: Tensor  # (P, Q)
    weights: Tensor  # (P, Q)
    background: float
    cut: float

    @property
    def total(self) -> int:
        """Number of pixels of all planes."""
        return pixel_count(self.shapes)

    def check(self, device: torch.device) -> None:
        """Raise a ValueError unless everything fits together and is on the device."""
        check_tensor("parameters", self.parameters, (ROWS, None), torch.float32, device)
        check(0 < self.cut <= 62, f"cut must lie above 0 and up to 62, got {self.cut}.")
        check_planes(self.frames, self.shapes, self.offsets, self.weights, self.background, device)


@dataclass(frozen=True)
class AdamStep:
    """One step of Adam; see `GaussianMRILib.native.adam_`."""

    parameters: Tensor  # (R, N), as the next three
    grad: Tensor
    m: Tensor
    v: Tensor
    rates: Tensor  # (R,)
    modes: Tensor  # (R,) int32
    step: int
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def check(self, device: torch.device) -> None:
        """Raise a ValueError unless everything fits together; rates and modes may be on any device."""
        size = tuple(self.parameters.shape)
        check(len(size) == 2, f"parameters must have two dimensions, got {size}.")
        for name in ("parameters", "grad", "m", "v"):
            check_tensor(name, getattr(self, name), size, torch.float32, device)
        for name in ("parameters", "m", "v"):
            contiguous = getattr(self, name).is_contiguous()
            check(contiguous, f"{name} is updated in place and must be contiguous.")
        rates, modes = self.rates, self.modes
        check(modes.dim() == 1 and modes.dtype == torch.int32, "modes must be int32 with one value per row.")
        check_tensor("rates", rates, (size[0],), torch.float32, rates.device)
        check_tensor("modes", modes, (size[0],), torch.int32, modes.device)
        check(self.step >= 1, f"step counts from 1, got {self.step}.")
        betas = f"beta1 and beta2 must lie in [0, 1), got {self.beta1} and {self.beta2}."
        check(0 <= self.beta1 < 1 and 0 <= self.beta2 < 1, betas)
        if device.type == "cpu":
            check(bool(((modes >= 0) & (modes <= 2)).all()), "modes must be 0, 1 or 2.")


class Implementation(Protocol):
    """The operators on arguments that have been checked, without a graph, contiguous."""

    def render_planes(self, scene: PlaneScene) -> tuple[Tensor, Tensor, Tensor]:
        """Image (total), samples (Q, total), density (Q, total)."""
        ...

    def render_planes_backward(
        self, grad_image: Tensor, samples: Tensor, density: Tensor, scene: PlaneScene
    ) -> Tensor:
        """Gradient (11, N) of sum(grad_image * image)."""
        ...

    def ssim(self, image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean structural similarity of each plane (P) and its gradient (total)."""
        ...

    def adam_(self, step: AdamStep) -> None:
        """One step in place on parameters, m and v."""
        ...


def pixel_count(shapes: Tensor) -> int:
    """Number of pixels of all planes."""
    return int(shapes.long().prod(1).sum())


def check_planes(
    frames: Tensor, shapes: Tensor, offsets: Tensor, weights: Tensor, background: float, device: torch.device
) -> None:
    """Check the arguments that describe planes."""
    planes = frames.shape[0] if frames.dim() else 0
    check_tensor("frames", frames, (planes, 12), torch.float32, device)
    check_tensor("offsets", offsets, (planes, None), torch.float32, device)
    check_tensor("weights", weights, (planes, offsets.shape[1]), torch.float32, device)
    check(offsets.shape[1] >= 1, "offsets must have at least one sample per plane.")
    check(background >= 0 and background < float("inf"), f"background must be 0 or more, got {background}.")
    check_shapes(shapes, planes)


def check_shapes(shapes: Tensor, planes: int | None = None) -> None:
    """Check rows and columns of planes, of so many if it is said."""
    check_tensor("shapes", shapes, (planes, 2), torch.int32, CPU)
    check(bool((shapes >= 0).all()), "shapes must not be negative.")
