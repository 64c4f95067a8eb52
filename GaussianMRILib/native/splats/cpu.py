"""The rasteriser by the compiled library."""

from __future__ import annotations

import torch
from torch import Tensor

from ..support.library import KernelLibrary, threads
from .arguments import NUMBERS, Pictures, SplatScene


class CpuSplats:
    """The operators on CPU tensors that have been checked."""

    def __init__(self, library: KernelLibrary) -> None:
        library.agree(NUMBERS)
        self.library = library

    def rasterise(self, scene: SplatScene) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image, alpha, depth and radii."""
        size = scene.height, scene.width
        shapes = ((*size, 3), size, size, (len(scene.means),))
        image, alpha, depth, radius = (torch.empty(shape, dtype=torch.float32) for shape in shapes)
        self.library.call("splat", *_scene(scene), image, alpha, depth, radius)
        return image, alpha, depth, radius

    def rasterise_backward(
        self, drawn: Pictures, gradients: Pictures, scene: SplatScene
    ) -> tuple[Tensor, ...]:
        """Gradients of means, quaternions, scales, sh, opacities, screen."""
        out = tuple(torch.empty_like(tensor) for tensor in (*scene.splats, scene.screen))
        self.library.call("splat_backward", *drawn.tensors, *gradients.tensors, *_scene(scene), *out)
        return out


def _scene(scene: SplatScene) -> tuple[Tensor | int, ...]:
    """The C interface's arguments from camera to threads."""
    return (scene.camera, scene.width, scene.height, *scene.splats, *scene.sh.shape[:2], threads())
