"""What the path tracer's operators take, and what an implementation of them does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..support.operators import CPU, check, check_tensor

CELL = 4  # voxels along each side of a cell
SUMS = 12  # floats per pixel
MAX_PLANES, MAX_LIGHTS = 24, 4  # the six of the box among the planes
GRADIENT_LEVELS = 256

_VECTOR = (np.float32, 3)
_LIGHT = np.dtype(
    [(name, *_VECTOR) for name in ("centre", "u", "v", "normal", "radiance")] + [("area", np.float32)]
)
#: GmTraceScene, member by member.
SCENE = np.dtype(
    [("size", np.int32, 3), ("cells", np.int32, 3)]
    + [(name, np.int32) for name in ("planes", "holes", "lights", "levels", "events", "width", "height")]
    + [("to_voxel", np.float32, (3, 4))]
    + [(name, *_VECTOR) for name in ("eye", "corner", "right", "down")]
    + [(name, np.float32) for name in ("value_scale", "gradient_scale", "face")]
    + [(name, np.float32) for name in ("anisotropy", "reflectance", "shininess")]
    + [(name, *_VECTOR) for name in ("up", "zenith", "horizon", "nadir")]
    + [("plane", np.float32, (4, MAX_PLANES)), ("normal", np.float32, (MAX_PLANES, 3)), ("light", _LIGHT, MAX_LIGHTS)]
)
NUMBERS = {
    "GmTraceScene": SCENE.itemsize, "GmTraceLight": _LIGHT.itemsize,
    "kTraceCell": CELL, "kTraceSums": SUMS, "kTracePlanes": MAX_PLANES, "kTraceLights": MAX_LIGHTS,
}  # fmt: skip


@dataclass(frozen=True)
class _Medium:
    """The first four arguments of both operators."""

    scene: Tensor  # (SCENE.itemsize / 4,) int32 on the CPU: SCENE
    values: Tensor  # (k, j, i) uint16
    gradients: Tensor  # (k, j, i) uint8, or empty

    @cached_property
    def header(self) -> Any:
        """The scene as a record of SCENE."""
        return np.frombuffer(self.scene.numpy().tobytes(), SCENE)[0]

    @property
    def picture_size(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.header["height"]), int(self.header["width"])

    def _check(self, table: Tensor, device: torch.device, **others: Tensor) -> None:
        """`others` have to be contiguous as well."""
        check_tensor("scene", self.scene, (SCENE.itemsize // 4,), torch.int32, CPU)
        i, j, k = (int(n) for n in self.header["size"])
        check_tensor("values", self.values, (k, j, i), torch.uint16, device)
        if self.gradients.numel():
            check_tensor("gradients", self.gradients, (k, j, i), torch.uint8, device)
        levels = int(self.header["levels"])
        check_tensor("table", table, (4 * levels + GRADIENT_LEVELS,), torch.float32, device)
        everything = {"values": self.values, "gradients": self.gradients, "table": table, **others}
        for name, tensor in everything.items():
            check(tensor.is_contiguous(), f"{name} must be contiguous.")


@dataclass(frozen=True)
class TraceScene(_Medium):
    """A volume, lights and a camera, and the samples of every pixel to trace; csrc/paths/api.h explains them."""

    majorants: Tensor  # per cell (ck, cj, ci), 1/mm
    skips: Tensor  # per cell, uint8
    table: Tensor
    seed: int
    first: int
    count: int

    def check(self, sums: Tensor, device: torch.device) -> None:
        """Raise a ValueError unless everything fits together and is on the device."""
        self._check(self.table, device, sums=sums, majorants=self.majorants, skips=self.skips)
        ci, cj, ck = (int(n) for n in self.header["cells"])
        check_tensor("sums", sums, (*self.picture_size, SUMS), torch.float32, device)
        check_tensor("majorants", self.majorants, (ck, cj, ci), torch.float32, device)
        check_tensor("skips", self.skips, (ck, cj, ci), torch.uint8, device)
        # A kernel would go on for ever, or beyond its memory.
        for name, tensor in (("majorants", self.majorants), ("table", self.table)):
            low, high = (float(x) for x in tensor.aminmax())
            fine = low >= 0 and high < float("inf")
            check(fine, f"{name} must be finite and not negative, are {low:g} to {high:g}.")
        check(0 <= self.seed < 2**31, f"seed must lie in [0, 2^31), got {self.seed}.")
        numbered = self.first >= 0 and self.count >= 0 and self.first + self.count < 2**31
        check(numbered, "samples are numbered from 0 to 2^31.")


@dataclass(frozen=True)
class FaceScene(_Medium):
    """A volume, lights and a camera whose cut faces are painted; csrc/paths/api.h explains them."""

    table: Tensor
    dome: Tensor  # (planes, 3)
    exposure: float
    side: int

    def check(self, image: Tensor, alpha: Tensor, depth: Tensor, device: torch.device) -> None:
        """Raise a ValueError unless everything fits together and is on the device."""
        self._check(self.table, device, image=image, alpha=alpha, depth=depth, dome=self.dome)
        check(int(self.header["holes"]) == 0, "the faces of what a hole leaves have no closed form.")
        size = self.picture_size
        check_tensor("image", image, (*size, 3), torch.float32, device)
        check_tensor("alpha", alpha, size, torch.float32, device)
        check_tensor("depth", depth, size, torch.float32, device)
        check_tensor("dome", self.dome, (int(self.header["planes"]), 3), torch.float32, device)
        check(self.exposure > 0 and 1 <= self.side <= 16, "exposure must be more than 0, side 1 to 16.")


class Implementation(Protocol):
    """The operators on arguments that have been checked."""

    def trace_(self, sums: Tensor, scene: TraceScene) -> None:
        """Add the samples to sums (height, width, SUMS)."""
        ...

    def trace_faces_(self, image: Tensor, alpha: Tensor, depth: Tensor, scene: FaceScene) -> None:
        """Paint the faces in front of a picture (height, width, 3), (height, width) twice."""
        ...
