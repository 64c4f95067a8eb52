"""Sub-slices from filters that a scan learns from its own slices.

Inside a slice the scan is sharp along both axes. Degrading one in-plane axis by the slice profile and spacing
gives pairs of thick and sharp images of this very anatomy and contrast. From such pairs we solve ridge
regressions: the sharp residual to the cubic upsampling, at one phase between slices, from a patch of thick
pixels (slices x pixels along the sharp axis). There is one filter per phase and bucket of gradient angle,
coherence and strength (RAISR: Romano, Isidoro, Milanfar 2017), shrunk towards one filter per phase where a
bucket has few samples. Then the filters run through-plane, once along each in-plane axis, and the mean is
made consistent with the slices.

No training data, no model file: the fallback where the network prior cannot run, and its peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import PROFILE_EDGE_MM
from ..stacks import SliceStack
from ..volumes import Volume, default_factor, enforce, slice_operator, upsample


@dataclass(frozen=True)
class RidgeSettings:
    """How filters are learned and used; lengths in mm where named so, else in pixels.

    Attributes:
        slices: thick slices in a patch, odd.
        across: pixels along the sharp axis in a patch, odd.
        angles, coherences, strengths: number of buckets of each.
        smoothing_mm: standard deviation of the structure tensor's window.
        ridge: Tikhonov weight of the one filter per phase, relative to the mean variance of a feature.
        shrinkage: how many samples' worth of evidence the filter per phase is, beside a bucket's own samples.
        samples: about so many thick pixels are learned from, per in-plane axis, each in four mirrorings.
        strength: of the final slice consistency, see `enforce`.
    """

    slices: int = 5
    across: int = 7
    angles: int = 8
    coherences: int = 3
    strengths: int = 3
    smoothing_mm: float = 2.2
    ridge: float = 0.01
    shrinkage: float = 300.0
    samples: int = 80_000
    strength: float = 0.1


@dataclass(frozen=True, eq=False)
class RidgeFilters:
    """Learned filters of one in-plane axis.

    Attributes:
        weights: (phases, buckets, features) float32.
        coherence_edges, strength_edges: bucket borders.
    """

    weights: NDArray[np.float32]
    coherence_edges: NDArray[np.float32]
    strength_edges: NDArray[np.float32]


def ridge_prior(
    stack: SliceStack, factor: int | None = None, settings: RidgeSettings = RidgeSettings(), seed: int = 0
) -> Volume:
    """Sub-slices of a stack by self-learned filters and slice consistency.

    Args:
        stack: parallel slices on one line, at least 3 of at least 16 x 16 pixels.
        factor: sub-slices per slice; default: voxels about as long as the finer in-plane pixel.
        seed: of the choice of samples where there are more than `settings.samples`.

    Returns:
        the volume, as `upsample(stack, factor)` would have it in shape and place.

    Raises:
        GaussianMRIError: slices not parallel, too few, or too small.
    """
    count, rows, columns = stack.shape
    if count < 3 or min(rows, columns) < 16:
        raise GaussianMRIError(
            f"{stack.name} has {count} slices of {rows} x {columns} pixels; filters need 3 of 16 x 16."
        )
    factor = default_factor(stack) if factor is None else int(factor)
    base = upsample(stack, factor=factor)
    if factor == 1:
        return enforce(base, stack, strength=settings.strength)
    if stack.grid() is None:
        raise GaussianMRIError(
            f"The slices of {stack.name} are not equally spaced; use the spline with slice profile."
        )
    scale = max(float(stack.pixels.std()), 1e-12)
    slices = stack.pixels / scale
    volume = base.pixels / scale
    step = stack.spacing / factor
    pitch = stack.pixel_spacing  # mm along i, j
    generator = np.random.default_rng(seed)
    result = np.zeros_like(volume)
    # In-plane axis 2 (i) is sharp beside axis 1 (j), which is degraded to learn from, and the other way
    # round.
    for sharp, degraded, sharp_mm, degraded_mm in ((2, 1, pitch[0], pitch[1]), (1, 2, pitch[1], pitch[0])):
        images = np.moveaxis(slices, (0, degraded, sharp), (0, 1, 2))
        filters = _learn(images, degraded_mm, sharp_mm, stack, factor, settings, generator)
        thick = np.moveaxis(slices, (degraded, 0, sharp), (0, 1, 2))
        cubic = np.moveaxis(volume, (degraded, 0, sharp), (0, 1, 2))
        residual = _apply(filters, thick, cubic, factor, (step, sharp_mm), settings)
        result += np.moveaxis(residual, (0, 1, 2), (degraded, 0, sharp)) / 2
    return enforce(replace(base, pixels=(volume + result) * scale), stack, strength=settings.strength)


def _learn(
    images: NDArray[np.float32],
    degraded_mm: float,
    sharp_mm: float,
    stack: SliceStack,
    factor: int,
    settings: RidgeSettings,
    generator: np.random.Generator,
) -> RidgeFilters:
    """Filters for one in-plane axis from slices `images` (n, degraded axis, sharp axis)."""
    count = settings.slices * settings.across
    step = stack.spacing / factor
    starts = np.arange(factor) * step  # slices that start at several places give more and different pairs
    pieces = []
    for start in starts:
        needed = settings.samples / len(starts) / (images.shape[1] * images.shape[2] / factor)
        few = generator.choice(len(images), min(len(images), int(np.ceil(needed))), replace=False)
        pair = _degrade(images[np.sort(few)], degraded_mm, stack, factor, start)
        if pair is not None:
            pieces.append(_samples(*pair, factor, (step, sharp_mm), settings))
    total = settings.angles * settings.coherences * settings.strengths
    if not pieces:  # too few pixels to cut three thick slices from: no correction along this axis
        return RidgeFilters(np.zeros((factor, total, count), np.float32), *np.zeros((2, 1), np.float32))
    features, residual, angle, coherence, strength = (
        np.concatenate(arrays, axis=-1) for arrays in zip(*pieces, strict=True)
    )
    edges = [
        np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]).astype(np.float32)
        for values, bins in ((coherence, settings.coherences), (strength, settings.strengths))
    ]
    # Anatomy has no preferred side: mirrored along either or both axes, a sample is as good as it was
    # measured.
    square = features.reshape(settings.slices, settings.across, -1)
    mirrored = [
        (
            square[::way, ::across].reshape(count, -1),
            residual[::way],
            _buckets(
                np.mod(way * across * angle[::way], 1.0), coherence[::way], strength[::way], edges, settings
            ),
        )
        for way in (1, -1)
        for across in (1, -1)
    ]
    features, residual, buckets = (np.concatenate(arrays, axis=-1) for arrays in zip(*mirrored, strict=True))
    features = np.ascontiguousarray(features.T)
    gram = features.T @ features / len(features)
    floor = settings.ridge * np.trace(gram) / count * np.eye(count)
    weights = np.zeros((factor, total, count), dtype=np.float32)
    for phase in range((factor + 1) // 2):
        one = np.linalg.solve(gram + floor, features.T @ residual[phase] / len(features))
        order = np.argsort(buckets[phase], kind="stable")
        ends = np.searchsorted(buckets[phase][order], np.arange(total + 1))
        for bucket in range(total):
            part = order[ends[bucket] : ends[bucket + 1]]
            x, y = features[part], residual[phase, part] - features[part] @ one
            weights[phase, bucket] = one + np.linalg.solve(
                x.T @ x + settings.shrinkage * (gram + floor), x.T @ y
            )
        # Mirrored samples make the filter of the mirrored phase, at the mirrored angle, the mirrored filter.
        grid = weights[phase].reshape(settings.angles, -1, settings.slices, settings.across)
        mirror = grid[-np.arange(settings.angles) % settings.angles, :, ::-1]
        weights[factor - 1 - phase] = mirror.reshape(total, count)
    return RidgeFilters(weights, edges[0], edges[1])


def _degrade(
    images: NDArray[np.float32], pixel_mm: float, stack: SliceStack, factor: int, start: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]] | None:
    """Thick (n, K, pixels), cubic upsampling and truth (n, K * factor, pixels); None if under 3 slices fit.

    `images` is (n, degraded axis, sharp axis); thick slices as in `stack` begin `start` mm from the image's
    edge.
    """
    from scipy.interpolate import make_interp_spline

    spacing, step = stack.spacing, stack.spacing / factor
    count = int((images.shape[1] * pixel_mm - start) / spacing + 1e-6)
    if count < 3:
        return None
    pixels = np.arange(images.shape[1]) * pixel_mm
    edge = start - pixel_mm / 2
    centers = edge + (np.arange(count) + 0.5) * spacing
    fine = edge + (np.arange(count * factor) + 0.5) * step
    thick = _through(slice_operator(pixels, centers, stack.thickness, edge_mm=PROFILE_EDGE_MM), images)
    degree = min(3, count - 1)
    upsampled = make_interp_spline(centers, np.eye(count), k=degree)(np.clip(fine, centers[0], centers[-1]))
    truth = make_interp_spline(pixels, np.eye(len(pixels)), k=3)(np.clip(fine, pixels[0], pixels[-1]))
    return thick, _through(upsampled, thick), _through(truth, images)


def _samples(
    thick: NDArray[np.float32],
    cubic: NDArray[np.float32],
    truth: NDArray[np.float32],
    factor: int,
    spacing: tuple[float, float],
    settings: RidgeSettings,
) -> tuple[NDArray[np.float32], ...]:
    """Features (features, N) of N thick pixels; residual, angle, coherence and strength (phases, N)."""
    features = _patches(thick, settings).reshape(-1, settings.slices * settings.across).T

    def by_phase(fine: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.moveaxis(fine.reshape(len(fine), -1, factor, fine.shape[2]), 2, 0).reshape(factor, -1)

    return features, *(
        by_phase(a) for a in (truth - cubic, *_structure(cubic, spacing, settings.smoothing_mm))
    )


def _apply(
    filters: RidgeFilters,
    thick: NDArray[np.float32],
    cubic: NDArray[np.float32],
    factor: int,
    spacing: tuple[float, float],
    settings: RidgeSettings,
) -> NDArray[np.float32]:
    """Residual (n, K * factor, pixels) for thick slices (n, K, pixels)."""
    result = np.empty_like(cubic, dtype=np.float32)
    edges = (filters.coherence_edges, filters.strength_edges)
    for first in range(0, len(thick), 8):  # a few planes at a time, to bound memory
        part = slice(first, first + 8)
        buckets = _buckets(*_structure(cubic[part], spacing, settings.smoothing_mm), edges, settings)
        features = _patches(thick[part], settings)
        shape = features.shape[:3]
        features = features.reshape(-1, features.shape[3])
        for phase in range(factor):
            chosen = filters.weights[phase, buckets[:, phase::factor].ravel()]
            result[part, phase::factor] = np.einsum("nf,nf->n", features, chosen).reshape(shape)
    return result


def _patches(thick: NDArray[np.float32], settings: RidgeSettings) -> NDArray[np.float32]:
    """Thick pixels around each, less their mean, (n, K, pixels, features)."""
    a, b = settings.slices // 2, settings.across // 2
    padded = np.pad(thick, ((0, 0), (a, a), (b, b)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (settings.slices, settings.across), axis=(1, 2)
    )
    patches = windows.reshape(*thick.shape, settings.slices * settings.across)
    return patches - patches.mean(axis=-1, keepdims=True)


def _structure(
    images: NDArray[np.float32], spacing: tuple[float, float], smoothing_mm: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Gradient angle in [0, 1) half turns, coherence in [0, 1] and strength, each (n, Z, pixels)."""
    from scipy.ndimage import gaussian_filter1d

    dz = np.gradient(images, spacing[0], axis=1)
    da = np.gradient(images, spacing[1], axis=2)

    def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
        for axis in (1, 2):
            values = gaussian_filter1d(values, smoothing_mm / spacing[axis - 1], axis=axis, mode="nearest")
        return values

    zz, aa, za = smooth(dz * dz), smooth(da * da), smooth(dz * da)
    spread = np.sqrt((zz - aa) ** 2 + 4 * za**2)
    angle = 0.5 * np.arctan2(2 * za, zz - aa) / np.pi
    trace = zz + aa
    return np.mod(angle, 1.0), spread / np.maximum(trace, 1e-12), np.sqrt(trace)


def _buckets(
    angle: NDArray[np.float32],
    coherence: NDArray[np.float32],
    strength: NDArray[np.float32],
    edges: Sequence[NDArray[np.float32]],
    settings: RidgeSettings,
) -> NDArray[np.int32]:
    """Bucket number of each pixel, of the arguments' shape."""
    a = np.mod(np.floor(angle * settings.angles + 0.5).astype(np.int32), settings.angles)
    c = np.searchsorted(edges[0], coherence).astype(np.int32)
    s = np.searchsorted(edges[1], strength).astype(np.int32)
    return (a * settings.coherences + c) * settings.strengths + s


def _through(matrix: NDArray[np.float64], images: NDArray[np.float32]) -> NDArray[np.float32]:
    """matrix (M, K) along axis 1 of images (n, K, pixels)."""
    return np.matmul(matrix.astype(np.float32), images)
