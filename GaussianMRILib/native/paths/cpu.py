"""The path tracer by the compiled library."""

from __future__ import annotations

from torch import Tensor

from ..support.library import KernelLibrary, threads
from .arguments import NUMBERS, FaceScene, TraceScene


class CpuPaths:
    """The operators on CPU tensors that have been checked."""

    def __init__(self, library: KernelLibrary) -> None:
        library.agree(NUMBERS)
        self.library = library

    def trace_(self, sums: Tensor, scene: TraceScene) -> None:
        """Add the samples to sums."""
        volume = (scene.values, scene.gradients, scene.majorants, scene.skips, scene.table)
        samples = (scene.seed, scene.first, scene.count, threads())
        self.library.call("trace", scene.scene, scene.scene.numel(), *volume, *samples, sums)

    def trace_faces_(self, image: Tensor, alpha: Tensor, depth: Tensor, scene: FaceScene) -> None:
        """Paint the faces in front of a picture."""
        volume = (scene.values, scene.gradients, scene.table, scene.dome)
        rules = (scene.exposure, scene.side, threads())
        self.library.call("trace_faces", scene.scene, scene.scene.numel(), *volume, *rules, image, alpha, depth)
