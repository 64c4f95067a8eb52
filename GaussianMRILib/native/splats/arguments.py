"""What the rasteriser's operators take, and what an implementation of them does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..support.operators import CPU, check, check_tensor

_VECTOR = (np.float32, 3)
#: GmCamera, member by member: rotation world to camera, by rows; eye (mm, RAS); fx, fy, cx, cy (pixels); the clip
#: plane's unit normal in camera axes and in RAS, its offset (mm); background colour; 1 if the plane cuts, else 0; 1 if the
#: low-pass filter adds no light, else 0.
CAMERA = np.dtype(
    [("rotation", np.float32, 9), ("eye", *_VECTOR)]
    + [(name, np.float32) for name in ("fx", "fy", "cx", "cy")]
    + [("normal", *_VECTOR), ("plane", *_VECTOR), ("offset", np.float32), ("background", *_VECTOR)]
    + [("clipped", np.float32), ("antialiased", np.float32)]
)
CAMERA_SIZE = CAMERA.itemsize // 4
#: GmSplat and GmCut, member by member.
SPLAT = np.dtype(
    [(name, np.float32) for name in ("x", "y", "A", "shear", "D", "q_max", "half_x", "half_y", "opacity", "depth")]
    + [("colour", *_VECTOR), ("straddles", np.int32), ("index", np.int32), ("spare", np.float32)]
)
CUT = np.dtype([(name, np.float32) for name in ("g00", "g01", "g02", "g11", "g12", "g22", "side", "slope")])
SUMS, CUT_SUMS = 10, 20  # floats of a record of sums, without and with those of the cut
NUMBERS = {
    "GmCamera": CAMERA.itemsize, "GmSplat": SPLAT.itemsize, "GmCut": CUT.itemsize, "kSplatSums": SUMS,
    "kSplatCutSums": CUT_SUMS,
}  # fmt: skip


def camera_part(camera: Tensor, name: str) -> Tensor:
    """A member of CAMERA in a packed camera (CAMERA_SIZE,) of any dtype: (n,), or a scalar."""
    dtype, offset = CAMERA.fields[name][:2]  # type: ignore[index]
    return camera[offset // 4 : offset // 4 + dtype.itemsize // 4] if dtype.shape else camera[offset // 4]


@dataclass(frozen=True)
class SplatScene:
    """Splats, a camera and the size of the picture."""

    means: Tensor  # (N, 3) mm, RAS
    quaternions: Tensor  # (N, 4) w, x, y, z
    scales: Tensor  # (N, 3) mm
    sh: Tensor  # (N, 1 | 4 | 9 | 16, 3)
    opacities: Tensor  # (N,)
    screen: Tensor  # (N, 2) pixels, added to the splats' places by the reference alone: it is there for its gradient
    camera: Tensor  # (CAMERA_SIZE,), on the CPU
    width: int
    height: int

    @property
    def splats(self) -> tuple[Tensor, ...]:
        """Means, quaternions, scales, sh, opacities."""
        return self.means, self.quaternions, self.scales, self.sh, self.opacities

    @property
    def cuts(self) -> bool:
        """Whether a plane cuts the splats."""
        return bool(camera_part(self.camera, "clipped") > 0)

    def check(self, device: torch.device) -> None:
        """Raise a ValueError unless everything fits together and is on the device."""
        count = self.means.shape[0] if self.means.dim() else 0
        coefficients = self.sh.shape[1] if self.sh.dim() == 3 else 0
        shapes = {
            "means": (count, 3), "quaternions": (count, 4), "scales": (count, 3), "sh": (count, coefficients, 3),
            "opacities": (count,), "screen": (count, 2),
        }  # fmt: skip
        for name, shape in shapes.items():
            check_tensor(name, getattr(self, name), shape, torch.float32, device)
        check(coefficients in (1, 4, 9, 16), f"sh must have 1, 4, 9 or 16 coefficients, got {coefficients}.")
        check_tensor("camera", self.camera, (CAMERA_SIZE,), torch.float32, CPU)
        check(
            1 <= self.width <= 16384 and 1 <= self.height <= 16384,
            f"a picture has 1 to 16384 pixels a side, got {self.width} x {self.height}.",
        )


@dataclass(frozen=True)
class Pictures:
    """What a rasteriser draws, or the gradients of it."""

    image: Tensor  # (H, W, 3)
    alpha: Tensor  # (H, W)
    depth: Tensor  # (H, W) mm

    def check(self, prefix: str, width: int, height: int, device: torch.device) -> None:
        """Raise a ValueError unless the pictures have this size; `prefix` begins their names."""
        check_tensor(f"{prefix}image", self.image, (height, width, 3), torch.float32, device)
        check_tensor(f"{prefix}alpha", self.alpha, (height, width), torch.float32, device)
        check_tensor(f"{prefix}depth", self.depth, (height, width), torch.float32, device)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Image, alpha, depth."""
        return self.image, self.alpha, self.depth


class Implementation(Protocol):
    """The operators on arguments that have been checked, without a graph, contiguous."""

    def rasterise(self, scene: SplatScene) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image (H, W, 3), alpha (H, W), depth (H, W) mm, radii (N) pixels."""
        ...

    def rasterise_backward(
        self, drawn: Pictures, gradients: Pictures, scene: SplatScene
    ) -> tuple[Tensor, ...]:
        """Gradients of means, quaternions, scales, sh, opacities, screen, from what `rasterise` drew."""
        ...
