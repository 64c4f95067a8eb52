"""Acquisition of slices from a phantom: slice profile, in-plane sampling, Rician noise."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import ImagePlane
from .anatomy import Phantom
from .frame import Floats
from .tissues import T2, Contrast

_TILE = 64  # pixels; a tile meets few tissues, so most layers are skipped


@dataclass(frozen=True)
class Scan:
    """A prescribed series.

    Args:
        name: folder of the series and part of its description.
        planes: the slices in order along their normal, each with its thickness in mm.
        noise: standard deviation of the noise in both channels, relative to cerebrospinal fluid in T2; 0 for the
            truth.
        samples: points across the slice thickness.
        contrast: `tissues.T2` or `tissues.T1`.
    """

    name: str
    planes: tuple[ImagePlane, ...]
    _: KW_ONLY
    noise: float = 0.0
    samples: int = 5
    contrast: Contrast = T2


def acquire(phantom: Phantom, scan: Scan, *, seed: int = 0) -> Floats:
    """Image the phantom, (slices, rows, columns) float32, 1 about the signal of cerebrospinal fluid in T2.

    Every slice averages the phantom over its thickness (box profile); the samples also spread over the area
    of the pixel, so that a pixel is a small volume and not a point. The magnitude of two noisy channels gives
    Rician noise.
    """
    generator = np.random.default_rng([phantom.seed, seed, 0xACE])
    images = []
    for plane in scan.planes:
        image = _slice(phantom, plane, scan.samples if plane.thickness > 0 else 1, scan.contrast)
        if scan.noise > 0:
            real = image + generator.normal(0, scan.noise, image.shape)
            imaginary = generator.normal(0, scan.noise, image.shape)
            image = np.sqrt(real**2 + imaginary**2).astype(np.float32)
        images.append(image)
    return np.stack(images)


def _offsets(plane: ImagePlane, samples: int) -> NDArray[np.float64]:
    """Displacements (samples, 3) mm of the points that one pixel averages: evenly through its box."""
    if samples == 1:
        return np.zeros((1, 3))
    index = np.arange(samples)
    through = ((index + 0.5) / samples - 0.5) * plane.thickness
    # A rank-1 lattice: each sample at another place of the pixel, without drift along the slice thickness.
    across, down = (index * 3) % samples / samples, (index * 2) % samples / samples
    offsets: NDArray[np.float64] = (
        through[:, None] * plane.normal
        + (across - across.mean())[:, None] * plane.ijk_to_ras[:3, 0]
        + (down - down.mean())[:, None] * plane.ijk_to_ras[:3, 1]
    )
    return offsets


def _slice(phantom: Phantom, plane: ImagePlane, samples: int, contrast: Contrast) -> Floats:
    points = plane.points()
    offsets = _offsets(plane, samples)
    image = np.empty(plane.shape, dtype=np.float32)
    for row in range(0, plane.shape[0], _TILE):
        for column in range(0, plane.shape[1], _TILE):
            tile = points[row : row + _TILE, column : column + _TILE]
            values = phantom.intensity(tile[None] + offsets[:, None, None], contrast=contrast)
            image[row : row + _TILE, column : column + _TILE] = values.mean(axis=0)
    return image
