"""Where a training's splats begin: at random, as in 3D Gaussian splatting, or in the volume that the pictures are of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import transform_points
from .splats import SH_C0, Splats

if TYPE_CHECKING:
    from .tracer import PathTracer

POINTS = 200_000
RADIANCE = 0.45
"""Of a white matte cut face under the lights that looks have, averaged over its direction: the colour a point of the inside
has in a picture is about this times its albedo."""
OPACITY = 0.5


def sample_points(tracer: PathTracer, count: int = POINTS, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Points of what a path tracer shows: half of them spread over it, half where its colour changes.

    Returns:
        `points` (count, 3) RAS mm and `colours` (count, 3) 0..1 as displayed on a cut face.
    """
    from .tracer import tone_map
    from .tracer_volume import LEVELS

    volume = tracer._volume
    values, table = volume.values.cpu().numpy(), volume.table.cpu().numpy()
    extinction = table[:LEVELS]
    shown = tone_map(RADIANCE * table[LEVELS : 4 * LEVELS].reshape(-1, 3), tracer.look.exposure)
    opacity = 1 - np.exp(-extinction * volume.spacing)
    level = (values * np.float32((LEVELS - 1) / 65535) + np.float32(0.5)).astype(np.int32)
    dense = opacity[level]
    for plane in volume.rois:
        normal = plane.normal @ volume.ijk_to_ras[:3, :3]
        offset = plane.offset - plane.normal @ volume.ijk_to_ras[:3, 3]
        k, j, i = np.ogrid[tuple(slice(n) for n in values.shape)]
        dense[i * normal[0] + j * normal[1] + k * normal[2] >= offset] = 0
    edges = np.zeros_like(dense)
    for channel in shown.T:
        for part in np.gradient(dense * channel[level]):
            edges += np.abs(part)
    edges[dense == 0] = 0
    generator = np.random.default_rng(seed)
    chosen = []
    for weights, part in ((dense, count - count // 2), (edges, count // 2)):
        total = np.cumsum(weights.ravel(), dtype=np.float64)
        if total[-1] <= 0:  # one flat colour has no edges
            total = np.cumsum(dense.ravel(), dtype=np.float64)
        chosen.append(np.searchsorted(total, generator.uniform(0, total[-1], part), side="right"))
    index = generator.permutation(np.minimum(np.concatenate(chosen), values.size - 1))
    ijk = np.stack(np.unravel_index(index, values.shape)[::-1], axis=1) + generator.uniform(
        -0.5, 0.5, (count, 3)
    )
    points = transform_points(volume.ijk_to_ras, ijk)
    return {"points": points.astype(np.float32), "colours": shown[level.ravel()[index]].astype(np.float32)}


def volume_splats(cloud: Mapping[str, NDArray[Any]], count: int, degree: int) -> Splats:
    """The first `count` points of `sample_points` as splats of their colour, as large as their neighbours are far."""
    means = torch.from_numpy(np.asarray(cloud["points"][:count], dtype=np.float32))
    base = (torch.from_numpy(np.asarray(cloud["colours"][:count], dtype=np.float32)) - 0.5) / SH_C0
    return _splats(means, base, means, degree, OPACITY)


def random_splats(
    count: int, center: np.ndarray, unit: float, degree: int, generator: torch.Generator
) -> Splats:
    """Splats spread evenly at random over a cube, grey, of opacity 0.1, as large as their neighbours are far (3DGS).

    Args:
        center: (3,) RAS mm.
        unit: mm, half the cube's edge.
    """
    local = (torch.rand(count, 3, generator=generator, dtype=torch.float32) * 2 - 1) * unit
    base = torch.rand(count, 3, generator=generator, dtype=torch.float32) / 255
    means = local + torch.from_numpy(np.asarray(center, dtype=np.float32))
    return _splats(means, base, local, degree, 0.1)


def _splats(means: Tensor, base: Tensor, local: Tensor, degree: int, opacity: float) -> Splats:
    from scipy.spatial import cKDTree

    count = len(means)
    points = local.numpy()
    distances = cKDTree(points).query(points, k=min(4, count), workers=-1)[0][:, 1:]
    smallest = 1e-7 * max(1e-3, float(np.ptp(points, axis=0).max()))
    size = np.sqrt(np.maximum((distances**2).mean(axis=1), smallest**2))
    return Splats(
        means,
        torch.tensor([1.0, 0, 0, 0], dtype=torch.float32).repeat(count, 1),
        torch.from_numpy(np.log(size).astype(np.float32))[:, None].repeat(1, 3),
        torch.cat([base[:, None], torch.zeros(count, (degree + 1) ** 2 - 1, 3, dtype=torch.float32)], dim=1),
        torch.full((count,), math.log(opacity / (1 - opacity)), dtype=torch.float32),
    )
