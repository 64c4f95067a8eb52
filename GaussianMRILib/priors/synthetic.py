"""Synthetic volumes that the prior network learns from: no patient, no licence, nothing to hallucinate from.

A volume is a stack of "dead leaves" in three dimensions: opaque bodies of power-law sizes laid over each other. Each
body is a bent superellipsoid (so balls, tubes, sheets and blocks occur) with a soft edge, an intensity gradient,
optionally stripes, fine texture and a bright or dark rim, as fat, cortex, fluid and muscle have them. The statistics
of edges, not any anatomy, is what the network learns.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch


def dead_leaves(
    seed: int, shape: tuple[int, int, int] = (88, 88, 88), largest_scale: float = 1.0
) -> torch.Tensor:
    """One synthetic volume, float32 in about [0, 1], noise free. The same seed gives the same volume.

    Args:
        shape: of the volume, voxels. Bodies are as dense and as large in a long one as in a cube of its size.
        largest_scale: small bodies, their edges and the blur are up to so many times as large as in a sharp image:
            pixels that are much finer than the slices are far apart are mostly interpolated ones.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float32))

    size = round(math.prod(shape) ** (1 / 3))
    scale = uniform(1.0, largest_scale) if largest_scale > 1 else 1.0
    volume = torch.full(shape, uniform(0.0, 0.6), dtype=torch.float32)
    smallest, largest = uniform(1.6, 4.0) * scale, 0.75 * size
    exponent = uniform(2.2, 3.2)
    count = int(uniform(150, 700) / scale)
    # Power-law radii by inverse transform; large ones first, or they would bury everything else.
    u = torch.rand(count, generator=generator, dtype=torch.float32)
    a, b = smallest ** (1 - exponent), largest ** (1 - exponent)
    radii = (a + (b - a) * u) ** (1 / (1 - exponent))
    noise = torch.randn(count, generator=generator, dtype=torch.float32)
    order = torch.argsort(radii + 0.35 * radii * noise, descending=True)
    background_count = int(uniform(3, 8))
    contrast = uniform(0.5, 1.0)
    softness = uniform(0.35, 0.9) * scale
    palette = torch.rand(int(uniform(4, 12)), generator=generator, dtype=torch.float32)
    for radius in [uniform(0.3, 0.75) * size for _ in range(background_count)] + radii[order].tolist():
        _lay_leaf(volume, radius, contrast, softness, palette, generator, uniform)
    sigma = uniform(0.25, 0.75) * scale
    volume = _blur(volume, sigma)
    volume = volume * _smooth_field(shape, generator, uniform(0.0, 0.15))
    return volume.clamp(0.0, 1.2)


def _lay_leaf(
    volume: torch.Tensor,
    radius: float,
    contrast: float,
    softness: float,
    palette: torch.Tensor,
    generator: torch.Generator,
    uniform: Callable[[float, float], float],
) -> None:
    size = torch.tensor(volume.shape, dtype=torch.float64)
    kind = uniform(0, 1)
    if kind < 0.4:  # roundish
        axes = torch.tensor([uniform(0.6, 1.4) for _ in range(3)], dtype=torch.float32)
    elif kind < 0.7:  # sheet
        axes = torch.tensor([uniform(0.08, 0.35), uniform(0.8, 1.4), uniform(0.8, 1.4)], dtype=torch.float32)
    else:  # tube
        axes = torch.tensor([uniform(0.12, 0.4), uniform(0.12, 0.4), uniform(1.0, 1.8)], dtype=torch.float32)
    semi = (axes * radius).clamp(min=0.7)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float32))
    bend = torch.randn(2, generator=generator, dtype=torch.float32) * 0.25 / float(semi.max())
    reach = torch.sqrt((rotation.T.abs() ** 2) @ (semi + 1.0) ** 2) * 1.45 + 2
    center = torch.rand(3, generator=generator, dtype=torch.float32) * (size + 0.6 * radius).float() - 0.3 * radius
    low = (center - reach).floor().clamp(min=0).int().tolist()
    high = torch.minimum((center + reach).ceil().double(), size).int().tolist()
    if any(stop <= start for start, stop in zip(low, high, strict=True)):
        return
    grid = [
        torch.arange(start, stop, dtype=torch.float32) - float(middle)
        for start, stop, middle in zip(low, high, center, strict=True)
    ]
    # Local coordinates along the body's axes; the bend moves the first two with the square of the third.
    local = [
        (rotation[n, 0] * grid[0])[:, None, None]
        + (rotation[n, 1] * grid[1])[None, :, None]
        + (rotation[n, 2] * grid[2])[None, None, :]
        for n in range(3)
    ]
    square = local[2] * local[2]
    x = local[0] + float(bend[0]) * square
    y = local[1] + float(bend[1]) * square
    if uniform(0, 1) < 0.6:
        level = (x / semi[0]) ** 2 + (y / semi[1]) ** 2 + square / semi[2] ** 2
        level = level.sqrt()
    else:
        power = uniform(2.5, 8.0)
        level = (
            (x / semi[0]).abs() ** power + (y / semi[1]).abs() ** power + (local[2] / semi[2]).abs() ** power
        ) ** (1 / power)
    # (level - 1) times the smallest half-axis approximates the distance to the surface in pixels where it is nearest.
    distance = (level - 1) * float(semi.min())
    edge = softness * uniform(0.6, 2.5) if uniform(0, 1) < 0.25 else softness
    mask = torch.sigmoid(-distance * (1.7 / edge))
    if uniform(0, 1) < 0.5:
        base = float(palette[int(uniform(0, len(palette) - 1e-3))]) + uniform(-0.04, 0.04)
    else:
        base = uniform(0, 1)
    fill = base + (uniform(-0.25, 0.25) / max(float(semi.max()), 4.0)) * local[2]
    if uniform(0, 1) < 0.2:
        period = uniform(2.5, 14)
        fill = fill + uniform(0.02, 0.18) * torch.sin(x * (2 * math.pi / period) + uniform(0, 6.28))
    if uniform(0, 1) < 0.45 and radius > 4:
        texture = _blur(torch.randn(mask.shape, generator=generator, dtype=torch.float32), uniform(0.6, 2.5), normalise=True)
        fill = fill + uniform(0.01, 0.2) * texture
    if uniform(0, 1) < 0.4:
        width = uniform(0.8, 2.5)
        fill = fill + uniform(-0.7, 0.7) * torch.exp(-(((distance + width) / width) ** 2))
    opacity = contrast if uniform(0, 1) < 0.7 else uniform(0.15, 1.0)
    region = volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    region += (mask * opacity) * (fill - region)


def _blur(volume: torch.Tensor, sigma: float, normalise: bool = False) -> torch.Tensor:
    radius = max(1, math.ceil(2.5 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float32) / sigma) ** 2)
    taps = taps / taps.sum()
    result = volume[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(taps)
        padding = [0, 0, 0, 0, 0, 0]
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = radius
        padded = torch.nn.functional.pad(result, padding, mode="replicate")
        result = torch.nn.functional.conv3d(padded, taps.reshape(shape))
    result = result[0, 0]
    if normalise:  # unit variance again: a blurred white noise loses amplitude with the size of its kernel
        result = result / (float((taps**2).sum()) ** 1.5)
    return result


def _smooth_field(shape: tuple[int, int, int], generator: torch.Generator, amplitude: float) -> torch.Tensor:
    coarse = 1 + amplitude * torch.randn((1, 1, 3, 3, 3), generator=generator, dtype=torch.float32).clamp(-2, 2)
    return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0, 0]
