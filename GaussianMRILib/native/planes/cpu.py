"""The operators of planes by the compiled library."""

from __future__ import annotations

import torch
from torch import Tensor

from ..support.library import KernelLibrary, threads
from .arguments import NUMBERS, AdamStep, PlaneScene


class CpuPlanes:
    """The operators on CPU tensors that have been checked."""

    def __init__(self, library: KernelLibrary) -> None:
        library.agree(NUMBERS)
        self.library = library

    def render_planes(self, scene: PlaneScene) -> tuple[Tensor, Tensor, Tensor]:
        """Image (total), samples (Q, total), density (Q, total)."""
        total, count = scene.total, scene.offsets.shape[1]
        sizes = ((total,), (count, total), (count, total))
        image, samples, density = (torch.empty(size, dtype=torch.float32) for size in sizes)
        self.library.call("render", *_scene(scene), image, samples, density)
        return image, samples, density

    def render_planes_backward(
        self, grad_image: Tensor, samples: Tensor, density: Tensor, scene: PlaneScene
    ) -> Tensor:
        """Gradient (11, N)."""
        gradient = torch.empty_like(scene.parameters)
        self.library.call("render_backward", grad_image, samples, density, *_scene(scene), gradient)
        return gradient

    def ssim(self, image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of each plane (P) and its gradient (total)."""
        mean, gradient = torch.empty(len(shapes), dtype=torch.float32), torch.empty_like(image)
        self.library.call("ssim", image, target, shapes, len(shapes), threads(), mean, gradient)
        return mean, gradient

    def adam_(self, step: AdamStep) -> None:
        """One step in place."""
        values = (step.parameters, step.grad, step.m, step.v, *step.parameters.shape)
        rules = (step.rates, step.modes, step.step, step.beta1, step.beta2, step.eps)
        self.library.call("adam", *values, *rules, threads())


def _scene(scene: PlaneScene) -> tuple[Tensor | float, ...]:
    """The C interface's arguments from parameters to threads."""
    return (
        scene.parameters, scene.parameters.shape[1], scene.frames, scene.shapes, scene.offsets, scene.weights,
        *scene.offsets.shape, scene.background, scene.cut, threads(),
    )  # fmt: skip
