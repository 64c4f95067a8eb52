"""The path tracer and its cut faces as torch operators, `torch.ops.gaussianmri.trace_` and `trace_faces_`.

Importing this module registers them, once per process.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..support.backend import kernels
from ..support.operators import register
from . import reference
from .arguments import FaceScene, Implementation, TraceScene


def _implementation(device: torch.device) -> Implementation:
    if device.type == "cuda":
        from ..support.cuda_launch import launcher
        from .cuda import CudaPaths

        return CudaPaths(launcher())
    library = kernels()
    if library is None:
        return reference
    from .cpu import CpuPaths

    return CpuPaths(library)


def _trace(device: torch.device, sums: Tensor, *arguments: Any) -> None:
    scene = TraceScene(*arguments)
    scene.check(sums, device)
    _implementation(device).trace_(sums, scene)


def _trace_faces(device: torch.device, image: Tensor, alpha: Tensor, depth: Tensor, *arguments: Any) -> None:
    scene = FaceScene(*arguments)
    scene.check(image, alpha, depth, device)
    _implementation(device).trace_faces_(image, alpha, depth, scene)


def _fake(*_: Any) -> None:
    return None


register(
    "trace_(Tensor(a!) sums, Tensor scene, Tensor values, Tensor gradients, Tensor majorants, Tensor skips, "
    "Tensor table, int seed, int first, int count) -> ()",
    _trace, _fake,
)  # fmt: skip
register(
    "trace_faces_(Tensor(a!) image, Tensor(b!) alpha, Tensor(c!) depth, Tensor scene, Tensor values, Tensor gradients, "
    "Tensor table, Tensor dome, float exposure, int side) -> ()",
    _trace_faces, _fake,
)  # fmt: skip
