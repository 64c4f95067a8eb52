"""Changes of a region's images: random ones for training, sixteen fixed ones for grading.

Source: "Rendering Novel Views of MRI using 3D Gaussian Splatting", sections 4.1 and 5.1. A left-right flip shows the other
side, so it is no change of a view here: flips go along the order of the slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .options import AugmentOptions

WIDTH = 224
"""Columns of the crops that shifts are given for; other sizes shift in proportion."""


@dataclass(frozen=True)
class View:
    """One view of a test image.

    Attributes:
        rotation: degrees.
        scale: above 1 magnifies.
        shift: (columns, rows) pixels of a crop 224 wide.
        brightness: added to the intensities of 0 to 1.
        contrast: factor of the distance from the mean intensity.
        flip: the slices in reverse order.
    """

    rotation: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    brightness: float = 0.0
    contrast: float = 1.0
    flip: bool = False


#: Identity, 1 flip, 4 shifts, 4 rotations, 2 scales, 2 brightnesses, 2 contrasts (section 5.1).
VIEWS = (
    View(),
    View(flip=True),
    *(View(shift=shift) for shift in ((4.0, 0.0), (-4.0, 0.0), (0.0, 4.0), (0.0, -4.0))),
    *(View(rotation=angle) for angle in (5.0, -5.0, 10.0, -10.0)),
    *(View(scale=scale) for scale in (0.95, 1.05)),
    *(View(brightness=offset) for offset in (0.02, -0.02)),
    *(View(contrast=factor) for factor in (1.02, 0.98)),
)


def view_images(images: Tensor, mask: Tensor, views: tuple[View, ...]) -> Tensor:
    """Images (V, S, H, W) of every view of one input (S, H, W); `View.flip` is left to who orders the slices.

    Args:
        mask: (S,), which slices exist; the mean intensity is theirs.
    """
    angle = torch.tensor([math.radians(view.rotation) for view in views], dtype=torch.float32)
    scale = torch.tensor([view.scale for view in views], dtype=torch.float32)
    shift = torch.tensor([view.shift for view in views], dtype=torch.float32)[:, None] * (images.shape[-1] / WIDTH)
    count = len(images)
    result = images.expand(len(views), *images.shape).clone()
    moved = [n for n, v in enumerate(views) if v.rotation or v.scale != 1 or v.shift != (0.0, 0.0)]
    if moved:
        result[moved] = warp(result[moved], angle[moved], scale[moved], shift[moved].expand(-1, count, 2))
    mean = images[mask].mean()
    for n, view in enumerate(views):
        if view.contrast != 1 or view.brightness:
            result[n] = (result[n] - mean) * view.contrast + mean + view.brightness
    return result


@dataclass(frozen=True)
class Changes:
    """Random changes of a batch: angle (B,) radians, scale (B,), shift (B, S, 2) pixels, offset (B,), flip (B,)."""

    angle: Tensor
    scale: Tensor
    shift: Tensor
    offset: Tensor
    flip: Tensor

    def __getitem__(self, which: slice) -> Changes:
        return Changes(
            self.angle[which], self.scale[which], self.shift[which], self.offset[which], self.flip[which]
        )


def draw_changes(count: int, slices: int, options: AugmentOptions, generator: torch.Generator) -> Changes:
    """Changes of `count` inputs, every value uniform in its range."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float32) * 2 - 1

    return Changes(
        uniform(count) * math.radians(options.rotation),
        1 + uniform(count) * options.scale,
        uniform(count, 1, 2) * options.shift + uniform(count, slices, 2) * options.slice_shift,
        uniform(count) * options.offset,
        torch.rand(count, generator=generator, dtype=torch.float32) < options.flip_slices,
    )


def change(images: Tensor, mask: Tensor, changes: Changes) -> tuple[Tensor, Tensor]:
    """Changed images (B, S, H, W) and masks (B, S)."""
    device, unit = images.device, images.shape[-1] / WIDTH
    result = warp(images, changes.angle.to(device), changes.scale.to(device), changes.shift.to(device) * unit)
    result = result + changes.offset.to(device)[:, None, None, None]
    flip = changes.flip.to(device)
    result = torch.where(flip[:, None, None, None], result.flip(1), result)
    return result, torch.where(flip[:, None], mask.flip(1), mask)


def warp(images: Tensor, angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Rotate about the middle, magnify and shift, bilinear; what comes in from beyond the border is 0, as outside a scan.

    Args:
        images: (B, S, H, W).
        angle: (B,) radians; positive turns columns towards rows (clockwise as images are shown).
        scale: (B,), above 1 magnifies.
        shift: (B, S, 2) pixels along columns and rows.
    """
    batch, slices, height, width = images.shape
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    inverse = torch.stack(
        [torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2
    )  # (B, 2, 2), pixels
    moved = -(inverse[:, None] @ shift[..., None])  # (B, S, 2, 1)
    theta = torch.cat([inverse[:, None].expand(-1, slices, 2, 2), moved], dim=-1).reshape(-1, 2, 3)
    # torch's coordinates run from -1 to 1 along each axis, whatever its length.
    half = torch.tensor([width / 2, height / 2], dtype=torch.float32, device=images.device)
    theta = theta * torch.cat([half, half.new_ones(1)]) / half[:, None]
    flat = images.reshape(batch * slices, 1, height, width)
    grid = torch.nn.functional.affine_grid(theta, list(flat.shape), align_corners=False)
    return torch.nn.functional.grid_sample(flat, grid, align_corners=False).reshape(images.shape)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (..., H, W) averaged down to (rows, columns); the same images where they have that size."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    flat = images.reshape(-1, 1, *images.shape[-2:])
    return torch.nn.functional.interpolate(flat, tuple(size), mode="area").reshape(*images.shape[:-2], *size)


def mirrored(images: Tensor, sagittal: bool = False) -> Tensor:
    """Images (..., S, H, W), or masks (..., S) of sagittal ones, with left and right exchanged.

    What they show is then the other side's. Sagittal slices run from right to left, so they come in reverse order.
    """
    return images.flip(-1 if not sagittal or images.dtype == torch.bool else -3)
