"""Correct slices of several stacks for motion and intensity, before they are fitted together.

Stacks first (`registration.py`), then slices: all slices of the *other* stacks at their present poses make a coarse
volume, and each slice goes to where its local NCC with that volume is largest (slice-to-volume registration, cf.
Gholipour et al., IEEE TMI 2010, with local NCC in place of squared differences: gain, shading and coil do not matter).
Coarse to fine, a few rounds; slices that agree with nothing leave the volume. Then each slice gets an intensity scale,
and each pixel a robust weight (Welsch: Holland and Welsch 1977) that tells the fit which pixels the stacks agree on.

Only where stacks overlap is there anything to compare, so the rest of the images is cut off for this. That also takes
away most of what moves otherwise: of a fetal exam in three planes the common part is the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import inside_hull
from ..interruption import checkpoint
from ..stacks import SliceStack
from ..volumes import thickness_offsets
from .registration import SHIFT, Reach, register_stacks
from .registration_score import Pair, Score, climb
from .registration_views import View, volume_channels

#: Tuning constant of Welsch weights, 95 % efficiency on Gaussian noise, in robust standard deviations.
WELSCH = 2.985
#: How far stacks and slices may move.
STACKS = Reach(15.0, 35.0, 8.0, 10.0)
SLICES = Reach(10.0, 15.0, 2.5, 3.0)
#: Pitch in mm and standard deviation of a Gaussian in mm of each round over the slices.
ROUNDS = ((2.0, 1.2), (2.0, 0.8), (1.25, 0.5), (1.25, 0.3))
#: Margin about the common part, mm, and the most windows and voxels that are used.
MARGIN_MM, MOST_WINDOWS, MOST_VOXELS = 10.0, 300, 3_000_000
#: A slice with fewer windows stays with its stack; one whose NCC is this far below the median leaves the volume.
FEWEST_WINDOWS, OUTLIER_NCC = 8, 0.3
#: Shifts that a slice's search begins at in the first round, mm.
STARTS_MM = 4.0


def refine_stacks(
    stacks: Sequence[SliceStack],
    low: float,
    high: float,
    progress: Callable[[float], object] | None = None,
) -> tuple[list[SliceStack], torch.Tensor | None, dict[str, Any]]:
    """Stacks with corrected poses and intensities, a robust weight for every pixel, and a report.

    Args:
        stacks: two or more that overlap; a single stack is returned as it is, since nothing can be compared.
        low, high: intensities of normalised 0 and 1.
        progress: called with the share done; what it raises ends the refinement.

    Returns:
        The stacks; weights (total pixels,) in [0, 1] in the order of the stacks' pixels, or None; the report.
    """
    current = list(stacks)
    if len(current) < 2:
        return current, None, {"note": "one stack has no other to be compared with; nothing was moved"}
    tell = progress or (lambda share: None)
    common = [_common_part(n, current) for n in range(len(current))]
    first = register_stacks(common, reach=STACKS, blocks=None, progress=lambda share: tell(share / 2))
    slices = _Slices(common, [motions[0] for motions in first.motions])
    for n, (pitch, smooth) in enumerate(ROUNDS):
        slices.round(pitch, smooth, search=n == 0)
        tell(0.5 + 0.4 * (n + 1) / len(ROUNDS))
    current = [
        replace(stack, ijk_to_ras=motions @ stack.ijk_to_ras)
        for stack, motions in zip(current, slices.motions, strict=True)
    ]
    common = [
        replace(part, ijk_to_ras=stack.ijk_to_ras @ np.linalg.inv(given.ijk_to_ras) @ part.ijk_to_ras)
        for part, stack, given in zip(common, current, stacks, strict=True)
    ]
    scales = _scales(common, low)
    current = [
        replace(stack, pixels=(low + (stack.pixels - low) * scale[:, None, None]).astype(np.float32))
        for stack, scale in zip(current, scales, strict=True)
    ]
    weights = _weights(current, low, high)
    tell(1.0)
    moved = [_moves(stack, given) for stack, given in zip(current, stacks, strict=True)]
    report = {
        "stacks": first.report,
        "intensity_scales": [[round(float(v), 4) for v in scale] for scale in scales],
        "shifts_mm": [[round(float(v), 3) for v in shift] for shift in moved],
        "slice_ncc_before": [[round(float(v), 3) for v in ncc] for ncc in slices.before],
        "slice_ncc_after": [[round(float(v), 3) for v in ncc] for ncc in slices.after],
        "mean_weight": round(float(weights.mean()), 4),
    }
    return current, torch.from_numpy(weights), report


def welsch(residual: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Welsch weights exp(-(r / c)^2) with c from the median absolute deviation; 1 where there is no spread."""
    spread = float(np.median(np.abs(residual - np.median(residual)))) * 1.4826
    if spread <= 0:
        return np.ones(residual.shape)
    return np.exp(-((np.asarray(residual, np.float64) / (WELSCH * spread)) ** 2))


def rigid(motion: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) of a rotation vector (rad) about `centre` followed by a shift (mm)."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(motion[:3]).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + motion[3:]
    return matrix


def _common_part(n: int, stacks: Sequence[SliceStack]) -> SliceStack:
    """The rows and columns of a stack that lie in every other one, or else in any other one, with a margin."""
    stack = stacks[n]
    step = max(1, min(stack.shape[1:]) // 48)
    points = np.stack([plane.points()[::step, ::step] for plane in stack.planes()])
    inside = np.stack([inside_hull(other.hull(), points) for m, other in enumerate(stacks) if m != n])
    for covered in (inside.all(axis=0), inside.any(axis=0)):
        if covered.mean() > 0.002:
            window = []
            for axis, spacing in ((1, stack.pixel_spacing[1]), (2, stack.pixel_spacing[0])):
                found = np.flatnonzero(np.any(covered, axis=(0, 3 - axis))) * step
                margin = int(MARGIN_MM / spacing)
                window.append(
                    slice(
                        max(0, int(found[0]) - margin),
                        min(stack.shape[axis], int(found[-1]) + step + margin),
                    )
                )
            return stack.window(*window)
    return stack


@dataclass
class Splat:
    """Slices gathered on a grid: sums of values and of weights, (Z, rows, columns)."""

    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    def volume(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Means, and 1 where there are any."""
        known = self.weights > 0.15 * np.percentile(self.weights[self.weights > 0], 50, method="lower")
        means = np.where(known, self.values / np.maximum(self.weights, 1e-9), 0)
        return means.astype(np.float32), known.astype(np.float32)


class Grid:
    """A cubic grid about some slices, to gather them on."""

    def __init__(self, stacks: Sequence[SliceStack], pitch: float) -> None:
        corners = np.concatenate([plane.corners() for stack in stacks for plane in stack.planes()])
        low, high = corners.min(axis=0) - 5, corners.max(axis=0) + 5
        self.pitch = max(pitch, float((np.prod(high - low) / MOST_VOXELS) ** (1 / 3)))
        self.shape = tuple(int(n) for n in np.ceil((high - low) / self.pitch)[::-1])
        self.ijk_to_ras = np.diag([self.pitch] * 3 + [1.0])
        self.ijk_to_ras[:3, 3] = low

    def gather(self, stack: SliceStack, motions: NDArray[np.float64], weights: NDArray[np.float64]) -> Splat:
        """Pixels spread over their slice's thickness and to the eight voxels about them."""
        size = int(np.prod(self.shape))
        values, total = np.zeros(size), np.zeros(size)
        along_i, along_j = stack.pixel_spacing
        fi, fj = max(1, round(self.pitch / along_i / 1.5)), max(1, round(self.pitch / along_j / 1.5))
        profile = max(stack.thickness, stack.spacing)
        offsets = thickness_offsets(profile, step=self.pitch)
        for k in np.flatnonzero(weights > 0):
            checkpoint()
            rows, columns = stack.shape[1] // fj, stack.shape[2] // fi
            pixels = stack.pixels[k, : rows * fj, : columns * fi].reshape(rows, fj, columns, fi).mean((1, 3))
            pose = motions[k] @ stack.ijk_to_ras[k]
            j, i = np.meshgrid(
                np.arange(rows) * fj + (fj - 1) / 2, np.arange(columns) * fi + (fi - 1) / 2, indexing="ij"
            )
            points = i[..., None] * pose[:3, 0] + j[..., None] * pose[:3, 1] + pose[:3, 3]
            # A triangle across the slice: its middle is where its signal comes from.
            shares = weights[k] * (1 - np.abs(offsets) / profile)
            points = points[None] + offsets[:, None, None, None] * pose[:3, 2]
            index = (points - self.ijk_to_ras[:3, 3]) / self.pitch
            self._add(index, np.broadcast_to(pixels, index.shape[:-1]), shares, values, total)
        return Splat(values.reshape(self.shape), total.reshape(self.shape))

    def _add(
        self,
        index: NDArray[np.float64],
        pixels: NDArray[np.floating[Any]],
        shares: NDArray[np.float64],
        values: NDArray[np.float64],
        total: NDArray[np.float64],
    ) -> None:
        shape = np.array(self.shape[::-1])
        base = np.floor(index).astype(np.int64)
        good = ((base >= 0) & (base < shape - 1)).all(axis=-1)
        part = (index - base)[good]
        share = np.broadcast_to(shares[:, None, None], good.shape)[good]
        first = base[good] @ np.array([1, shape[0], shape[0] * shape[1]])
        places, weights = [], []
        for corner in range(8):
            bits = np.array([corner & 1, corner >> 1 & 1, corner >> 2])
            weights.append(share * np.prod(np.where(bits, part, 1 - part), axis=1))
            places.append(first + bits @ np.array([1, shape[0], shape[0] * shape[1]]))
        place, weight = np.concatenate(places), np.concatenate(weights)
        values += np.bincount(place, weight * np.tile(pixels[good], 8), minlength=len(values))
        total += np.bincount(place, weight, minlength=len(total))


class _Slices:
    """Every slice's motion, found round by round."""

    def __init__(self, stacks: Sequence[SliceStack], motions: Sequence[NDArray[np.float64]]) -> None:
        self.stacks = _levelled(stacks)
        self.start = [np.repeat(m[None], len(s.pixels), axis=0) for m, s in zip(motions, stacks, strict=True)]
        self.motions = [m.copy() for m in self.start]
        self.trust = [np.ones(len(stack.pixels)) for stack in stacks]
        self.before = [np.zeros(len(stack.pixels)) for stack in stacks]
        self.after = [np.zeros(len(stack.pixels)) for stack in stacks]

    def round(self, pitch: float, smooth: float, search: bool) -> None:
        """Move every slice to the volume of the other stacks' slices."""
        from scipy.ndimage import gaussian_filter

        grid = Grid(self.stacks, pitch)
        parts = [
            grid.gather(stack, motions, trust)
            for stack, motions, trust in zip(self.stacks, self.motions, self.trust, strict=True)
        ]
        whole = Splat(sum(p.values for p in parts), sum(p.weights for p in parts))  # type: ignore[arg-type]
        for n, stack in enumerate(self.stacks):
            rest = Splat(whole.values - parts[n].values, whole.weights - parts[n].weights)
            rest.values[rest.weights < 1e-6] = 0
            rest.weights[rest.weights < 1e-6] = 0
            if not rest.weights.any():
                continue
            volume, mass = _across(*rest.volume(), stack.normal, stack.thickness, grid.pitch, smooth)
            channels, floor = volume_channels(volume, mass)
            fi, fj = (max(1, round(grid.pitch / step)) for step in stack.pixel_spacing)
            for k in range(len(stack.pixels)):
                rows, columns = stack.shape[1] // fj, stack.shape[2] // fi
                pixels = stack.pixels[k, : rows * fj, : columns * fi].reshape(rows, fj, columns, fi)
                pose = stack.ijk_to_ras[k].copy()
                pose[:3, 3] += pose[:3, 0] * (fi - 1) / 2 + pose[:3, 1] * (fj - 1) / 2
                pose[:3, 0] *= fi
                pose[:3, 1] *= fj
                image = gaussian_filter(pixels.mean((1, 3)), np.hypot(smooth, 0.6) / grid.pitch)
                view = View.of_slice(image, pose, volume, mass, grid.ijk_to_ras, MOST_WINDOWS)
                if len(view.f) >= FEWEST_WINDOWS:
                    view.channels, view.floor_moving = channels, floor
                    self._place(n, k, view, search)
        ncc = np.concatenate(self.after)
        middle = float(np.median(ncc[ncc > 0])) if (ncc > 0).any() else 0.0
        for n in range(len(self.stacks)):
            self.trust[n] = np.where(self.after[n] < middle - OUTLIER_NCC, 0.05, 1.0)

    def _place(self, n: int, k: int, view: View, search: bool) -> None:
        score = Score([Pair(0, 1, view, np.zeros(3))], [self.start[n][k], np.eye(4)], [0])
        spread = SLICES.spread
        zero = score.windows(np.zeros(6))
        here = score.parameters(self.motions[n][k] @ np.linalg.inv(self.start[n][k]))
        starts = [here]
        if search:
            axes = [*STARTS_MM * np.eye(3), *-STARTS_MM * np.eye(3)]
            starts += [np.r_[np.zeros(3), axis] for axis in axes]
            values = [self._value(score, start) for start in starts]
            starts = [starts[m] for m in np.argsort(values)[::-1][:2]]
        found = []
        for start in starts:
            shift = climb(score, start, spread, SHIFT, temper=1.0, iterations=4).parameters
            found.append(climb(score, shift, spread, np.ones(6, bool), temper=1.0, iterations=6).parameters)
        best = max(found, key=lambda p: self._value(score, p))
        motion = score.motion(best)
        after = score.windows(best)
        if search:
            self.before[n][k] = zero.ncc
        better = self._value(score, best) > self._value(score, np.zeros(6))
        if better and SLICES.holds(motion, score.centre):
            self.motions[n][k], self.after[n][k] = motion @ self.start[n][k], after.ncc
        else:
            self.motions[n][k], self.after[n][k] = self.start[n][k], zero.ncc

    @staticmethod
    def _value(score: Score, parameters: NDArray[np.float64]) -> float:
        """Summed similarity less the prior's penalty."""
        windows = score.windows(parameters)
        return float(windows.similarity.sum() - 0.5 * np.sum((parameters / SLICES.spread) ** 2))


def _across(
    volume: NDArray[np.float32],
    mass: NDArray[np.float32],
    normal: NDArray[np.float64],
    thickness: float,
    pitch: float,
    smooth: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A volume on a cubic grid along the patient's axes, averaged over a slice's thickness along its normal."""
    from scipy.fft import irfftn, next_fast_len, rfftn

    shape = tuple(next_fast_len(n + int(np.ceil((thickness + 6) / pitch)), real=True) for n in volume.shape)
    axes = [np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])]
    k, j, i = np.meshgrid(*(axis / pitch for axis in axes), indexing="ij", sparse=True)
    kernel = np.sinc(thickness * (i * normal[0] + j * normal[1] + k * normal[2]))
    kernel = (kernel * np.exp(-2 * (np.pi * smooth) ** 2 * (i**2 + j**2 + k**2))).astype(np.float32)
    crop = tuple(slice(0, n) for n in volume.shape)
    blurred = irfftn(rfftn(volume * mass, shape) * kernel, shape)[crop]
    weight = irfftn(rfftn(mass, shape) * kernel, shape)[crop]
    known = (weight * (mass > 0)).astype(np.float32)
    return np.ascontiguousarray(blurred / np.maximum(weight, 0.2), np.float32), known


def _levelled(stacks: Sequence[SliceStack]) -> list[SliceStack]:
    """Stacks with pixels of one median and spread, so that their volume has no patches."""
    result = []
    for stack in stacks:
        low, high = np.percentile(stack.pixels[:, ::2, ::2], [5, 95])
        pixels = (stack.pixels - np.float32(low)) / np.float32(max(high - low, 1e-6))
        result.append(replace(stack, pixels=pixels))
    return result


def _seen(stacks: Sequence[SliceStack], own: bool) -> list[list[NDArray[np.float32]]]:
    """Each slice as the volume of all stacks (or of the others only) shows it, NaN where it does not."""
    from scipy.ndimage import map_coordinates

    pitch = max(1.0, max(min(stack.pixel_spacing) for stack in stacks))
    grid = Grid(stacks, pitch)
    still = [np.repeat(np.eye(4)[None], len(stack.pixels), axis=0) for stack in stacks]
    parts = [grid.gather(stack, eye, np.ones(len(eye))) for stack, eye in zip(stacks, still, strict=True)]
    whole = Splat(sum(p.values for p in parts), sum(p.weights for p in parts))  # type: ignore[arg-type]
    result = []
    for n, stack in enumerate(stacks):
        part = whole if own else Splat(whole.values - parts[n].values, whole.weights - parts[n].weights)
        part.weights[part.weights < 1e-6] = 0
        if not part.weights.any():
            result.append([np.full(stack.shape[1:], np.nan, np.float32)] * len(stack.pixels))
            continue
        volume, mass = _across(*part.volume(), stack.normal, stack.thickness, grid.pitch, 0.0)
        images = []
        for plane in stack.planes():
            checkpoint()
            index = ((plane.points() - grid.ijk_to_ras[:3, 3]) / grid.pitch)[..., ::-1]
            place = np.moveaxis(index, -1, 0)
            image = map_coordinates(volume, place, order=1, mode="nearest", output=np.float32)
            known = map_coordinates(mass, place, order=1, mode="constant", output=np.float32) > 0.85
            images.append(np.where(known, image, np.float32(np.nan)))
        result.append(images)
    return result


def _scales(stacks: Sequence[SliceStack], low: float) -> list[NDArray[np.float64]]:
    """What each slice is multiplied by to be as bright as the others: ratios of means, which noise does not dilute."""
    scales = [np.ones(len(stack.pixels)) for stack in stacks]
    for _ in range(3):
        scaled = [
            replace(stack, pixels=(low + (stack.pixels - low) * scale[:, None, None]).astype(np.float32))
            for stack, scale in zip(stacks, scales, strict=True)
        ]
        for n, images in enumerate(_seen(scaled, own=False)):
            for k, image in enumerate(images):
                known = np.isfinite(image)
                if known.mean() < 0.02:
                    continue
                mine, theirs = scaled[n].pixels[k][known] - low, image[known] - low
                if mine.mean() > 0 and theirs.mean() > 0:
                    scales[n][k] *= float(np.clip(theirs.mean() / mine.mean(), 0.5, 2.0)) ** 0.7
        mean = float(np.exp(np.mean(np.log(np.concatenate(scales)))))
        scales = [scale / mean for scale in scales]
    return scales


def _weights(stacks: Sequence[SliceStack], low: float, high: float) -> NDArray[np.float32]:
    """Robust weight of every pixel: how well it agrees with the volume of all slices."""
    result = []
    for stack, images in zip(stacks, _seen(stacks, own=True), strict=True):
        for pixels, image in zip(stack.pixels, images, strict=True):
            residual = (image - pixels) / (high - low)
            weight = np.ones(residual.shape)
            valid = np.isfinite(residual)
            if valid.any():
                weight[valid] = welsch(residual[valid])
            result.append(weight.ravel())
    return np.concatenate(result).astype(np.float32)


def _moves(stack: SliceStack, given: SliceStack) -> list[float]:
    """How far the middle of each slice has moved, mm."""
    pairs = zip(stack.planes(), given.planes(), strict=True)
    return [float(np.linalg.norm(a.center - b.center)) for a, b in pairs]


__all__ = ["refine_stacks", "rigid", "welsch"]
