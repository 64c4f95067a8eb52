"""Implicit shapes: signed distances in mm (negative inside), and layers of tissue painted over each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .frame import Floats, Points
from .tissues import Contrast, Tissue

#: What a layer shows: one tissue, or a signal that varies with the place.
Value = Tissue | Callable[[Points, Contrast], Floats]
EVERYWHERE = (-np.inf, np.inf)
EDGE = 0.8  # mm over which one tissue passes into the next


@dataclass(frozen=True)
class Layer:
    """One structure: where it is and of what.

    Args:
        name: the anatomical structure.
        distance: signed distance in mm to its surface, negative inside.
        bands: (depth in mm, what is there) from the surface inwards, for instance cortex, then marrow.
        along: range of s, side: range of |u|, front: range of v, in mm, outside which the layer is absent.
        edge: mm over which the layer fades in.
    """

    name: str
    distance: Callable[[Points], Floats]
    bands: Sequence[tuple[float, Value]]
    along: tuple[float, float] = EVERYWHERE
    side: tuple[float, float] = EVERYWHERE
    front: tuple[float, float] = EVERYWHERE
    edge: float = EDGE


class Painting:
    """Layers in the order in which they are painted over each other."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = tuple(layers)
        edges = np.array([layer.edge for layer in layers])[:, None]
        limits = np.array([(layer.along, layer.side, layer.front) for layer in layers], dtype=np.float64)
        self._low, self._high = limits[..., 0] - edges, limits[..., 1] + edges

    def paint(self, image: Floats, points: Points, contrast: Contrast) -> None:
        """Paint over `image` (N,), in place, as a contrast shows it.

        Layers whose range the points do not meet cost nothing.
        """
        ranges = np.array([(a.min(), a.max()) for a in (points.s, points.side, points.v)])
        met = np.all((ranges[:, 1] >= self._low) & (ranges[:, 0] <= self._high), axis=1)
        for index in np.flatnonzero(met):
            _paint_layer(image, points, self.layers[index], contrast)


def _paint_layer(image: Floats, points: Points, layer: Layer, contrast: Contrast) -> None:
    distance = layer.distance(points)
    if float(distance.min()) > layer.edge:
        return
    for depth, value in layer.bands:
        share = np.clip(0.5 - (distance + depth) / layer.edge, 0.0, 1.0)
        if isinstance(value, Tissue):
            image += share * (contrast.of(value) - image)
            continue
        inside = np.flatnonzero(share)
        if inside.size:
            image[inside] += share[inside] * (value(points.take(inside), contrast) - image[inside])


def superellipse(
    a: Floats, b: Floats, half_a: Floats | float, half_b: Floats | float, exponent: float
) -> Floats:
    """Radial distance in mm to |a/half_a|^n + |b/half_b|^n = 1."""
    p, q = np.abs(a / half_a), np.abs(b / half_b)
    if exponent == 2:
        r = np.sqrt(p * p + q * q)
    else:
        r = (p**exponent + q**exponent) ** (1 / exponent)
    r = np.maximum(r, 1e-6)
    radius = np.sqrt(a * a + b * b)
    # At the centre the radial form is 0/0; there the distance is minus the smaller half-axis.
    return np.asarray(np.where(r > 0.02, radius * (1 - 1 / r), -np.minimum(half_a, half_b)), dtype=np.float32)


def ellipse(a: Floats, b: Floats, half_a: Floats | float, half_b: Floats | float) -> Floats:
    """Radial distance in mm to an ellipse."""
    return superellipse(a, b, half_a, half_b, 2)


def slab(a: Floats, half: Floats | float) -> Floats:
    """Distance in mm to the layer |a| < half."""
    return np.asarray(np.abs(a) - half, dtype=np.float32)


def both(*distances: Floats) -> Floats:
    """Intersection."""
    result = distances[0]
    for other in distances[1:]:
        result = np.maximum(result, other)
    return result


def rounded(distances: Sequence[Floats], radius: float) -> Floats:
    """Intersection with its edges rounded by `radius` mm."""
    outside = sum(np.maximum(d + radius, 0) ** 2 for d in distances)
    inside = np.minimum(both(*distances) + radius, 0)
    return np.asarray(np.sqrt(outside) + inside - radius, dtype=np.float32)


class Texture:
    """A smooth random field of mean 0 and standard deviation 1: warped waves, so that no tissue is flat.

    Args:
        generator: source of the random directions and phases.
        period: mm, (3,) typical wavelength along x, y, z.
    """

    def __init__(
        self, generator: np.random.Generator, period: tuple[float, float, float], waves: int = 6
    ) -> None:
        directions = generator.normal(size=(waves, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        scale = generator.uniform(0.7, 1.6, size=(waves, 1))
        self._waves = (2 * np.pi * scale * directions / np.asarray(period)).astype(np.float32)
        self._phases = generator.uniform(0, 2 * np.pi, size=waves).astype(np.float32)
        self._warp = (0.4 * self._waves.mean(axis=0) * np.sqrt(waves)).astype(np.float32)
        self._scale = float(np.sqrt(2.0 / waves))

    def __call__(self, points: Points) -> Floats:
        total = np.zeros_like(points.x)
        warp = self._warp
        bend = np.sin(warp[0] * points.x + warp[1] * points.y + warp[2] * points.z)
        for wave, phase in zip(self._waves, self._phases, strict=True):
            total += np.sin(wave[0] * points.x + wave[1] * points.y + wave[2] * points.z + phase + 1.3 * bend)
        return np.asarray(total * self._scale, dtype=np.float32)
