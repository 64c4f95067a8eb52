"""The path tracer on CUDA; kernels: csrc/paths/cuda.cuh."""

from __future__ import annotations

from torch import Tensor

from ..support.cuda_launch import Launcher
from .arguments import FaceScene, TraceScene

_THREADS = 128  # of a block of 16 x 8 pixels


class CudaPaths:
    """The operators on one launcher."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def trace_(self, sums: Tensor, scene: TraceScene) -> None:
        """Queue the samples."""
        volume = (scene.values, scene.gradients, scene.majorants, scene.skips, scene.table)
        self.launcher.launch(
            "gm_trace", _grid(scene.picture_size), _THREADS, scene.scene.to(sums.device), *volume, scene.seed, scene.first,
            scene.count, sums,
        )  # fmt: skip

    def trace_faces_(self, image: Tensor, alpha: Tensor, depth: Tensor, scene: FaceScene) -> None:
        """Queue the faces."""
        volume = (scene.values, scene.gradients, scene.table, scene.dome)
        self.launcher.launch(
            "gm_trace_faces", _grid(scene.picture_size), _THREADS, scene.scene.to(image.device), *volume, scene.exposure,
            scene.side, image, alpha, depth,
        )  # fmt: skip


def _grid(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    return -(-width // 16), -(-height // 8)
