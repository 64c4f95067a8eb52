"""Two blocks of parallel slices, each as the other one would have seen it.

Slice a is sharp in its own plane and an average along its normal; b is the same about another normal. Neither may be
compared with an interpolation of the other: that has another blur, and a shift can make up for a blur. So a is
averaged along b's normal by what made b's volume there (b's profile and the interpolation between b's slices), and b
along a's normal by a's profile. Where the normals are perpendicular the two are then equal up to noise.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import transform_points
from ..interruption import checkpoint
from ..stacks import SliceStack, slice_columns
from ..stacks.agreement import of_one_series

#: Points along each side of a window of the local NCC, a pitch apart.
WINDOW = 7
#: Shares of a window's points, of an interpolation's weight and of a blur's mass that must have been acquired.
POINTS_NEEDED, WEIGHT_NEEDED, MASS_NEEDED = 0.75, 0.7, 0.85
#: Windows this near to what two blocks have in their middle are central: an exam is centred on what it was made for.
CENTRAL_MM = 25.0
#: Two stacks of a series that have this share of points in common are repetitions, not blocks of it.
REPEATED = 0.5


@dataclass(frozen=True, eq=False)
class Block:
    """Parallel slices that move as one body.

    Attributes:
        stack: index of the stack that it is a part of.
        first: index of its first slice there.
        group: index of the series: blocks of a group share a motion before they get their own.
        slices: the part.
    """

    stack: int
    first: int
    group: int
    slices: SliceStack

    @functools.cached_property
    def normal(self) -> NDArray[np.float64]:
        return self.slices.ijk_to_ras[0, :3, 2]

    @functools.cached_property
    def centre(self) -> NDArray[np.float64]:
        """Middle (3,), RAS mm."""
        first, last = self.slices.plane(0).center, self.slices.plane(-1).center
        middle: Any = (first + last) / 2
        return middle

    @functools.cached_property
    def extent(self) -> NDArray[Any]:
        """(3, 3) RAS: sum of e e^T / (half extent)^2, mm^-2, over the block's axes."""
        stack, middle = self.slices, self.slices.plane(0)
        depth = float(np.ptp(stack.positions)) + stack.thickness
        height, width = (n * step for n, step in zip(middle.shape, middle.spacing[::-1], strict=True))
        axes = np.stack([middle.i_axis, middle.j_axis, self.normal])
        total: Any = (axes.T * (4 / np.array([width, height, depth]) ** 2)) @ axes
        return total

    @property
    def interpolation(self) -> float:
        """Half width of the linear interpolation between its slices, mm; 0 for a single slice."""
        return self.slices.spacing if len(self.slices.pixels) > 1 else 0.0


def common_middle(
    a: Block, b: Block, pose_a: NDArray[np.float64], pose_b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The point (3,), RAS, that is nearest to the middles of both blocks, in units of their extents."""
    total, moment = np.zeros((3, 3)), np.zeros(3)
    for block, pose in ((a, pose_a), (b, pose_b)):
        weight = pose[:3, :3] @ block.extent @ pose[:3, :3].T
        total += weight
        moment += weight @ (pose[:3, :3] @ block.centre + pose[:3, 3])
    middle: Any = np.linalg.solve(total, moment)
    return middle


def blocks_of(stacks: Sequence[SliceStack]) -> list[Block]:
    """Every run of parallel slices; runs of one series (by its UID) that lie beside each other share a group."""
    blocks: list[Block] = []
    groups: list[list[int]] = []
    for n, stack in enumerate(stacks):
        group = next(
            (
                g
                for g, members in enumerate(groups)
                if of_one_series(stacks[members[0]], stack)
                and not any(_repeats(stack, stacks[member]) for member in members)
            ),
            None,
        )
        if group is None:
            group = len(groups)
            groups.append([])
        groups[group].append(n)
        first = 0
        for part in stack.blocks():
            blocks.append(Block(n, first, group, part))
            first += len(part.pixels)
    return blocks


def _repeats(stack: SliceStack, other: SliceStack) -> bool:
    points = np.concatenate([plane.points()[8::16, 8::16].reshape(-1, 3) for plane in stack.planes()])
    return len(points) > 0 and other.inside(points).mean() > REPEATED


class BlockVolume:
    """A block as voxels of about `pitch` mm: pixels by their mean, sub-slices by linear interpolation.

    Attributes:
        pixels, valid: (Z, rows, columns) float32, and 1 where something was acquired.
        ijk_to_ras: (4, 4) of the voxels, in the block's own unmoved space.
        planes: indices of the sub-slices that are slices.
    """

    def __init__(self, block: Block, pitch: float) -> None:
        self.block, self.pitch = block, pitch
        stack = block.slices
        columns = slice_columns(stack)
        assert columns is not None
        along_i, along_j = stack.pixel_spacing
        fi, fj = max(1, round(pitch / along_i)), max(1, round(pitch / along_j))
        fi, fj = min(fi, stack.shape[2]), min(fj, stack.shape[1])
        acquired = _acquired(stack.pixels)
        pixels, share = _binned(stack.pixels * acquired, fj, fi), _binned(acquired, fj, fi)
        positions = columns.positions
        gap = block.interpolation or stack.thickness
        step = gap / max(1, int(np.ceil(gap / pitch - 0.2)))
        if gap < pitch / 1.5:
            step = pitch
        before = int(np.floor((1 - WEIGHT_NEEDED) * gap / step + 1e-6)) + 1  # the outermost are empty
        count = int(np.ceil((positions[-1] - positions[0]) / step - 1e-6)) + 1 + 2 * before
        z = positions[0] + (np.arange(count) - before) * step
        weights = np.maximum(1 - np.abs(z[:, None] - positions) / max(gap, step), 0)
        total = weights.sum(axis=1)
        weights = (weights / np.maximum(total, 1e-9)[:, None]).astype(np.float32)
        flat = (weights @ pixels.reshape(len(pixels), -1)).reshape(count, *pixels.shape[1:])
        share = (weights @ share.reshape(len(share), -1)).reshape(flat.shape)
        valid = (share > 0.5) & (total >= WEIGHT_NEEDED - 1e-6)[:, None, None]
        self.pixels = np.where(valid, flat / np.maximum(share, 0.5), 0).astype(np.float32)
        self.valid = valid.astype(np.float32)
        affine = columns.ijk_to_ras.copy()
        affine[:3, 3] += affine[:3, 2] * z[0] + affine[:3, 0] * (fi - 1) / 2 + affine[:3, 1] * (fj - 1) / 2
        affine[:3, 0] *= fi
        affine[:3, 1] *= fj
        affine[:3, 2] *= step
        self.ijk_to_ras = affine
        stride = max(1, round(pitch / gap))
        self.planes = np.clip(np.rint((positions[::stride] - z[0]) / step), 0, count - 1).astype(int)
        self.step = step

    def near(self, points: NDArray[np.float64], margin: float) -> BlockVolume:
        """The part within `margin` mm of the box (in the volume's axes) of points (..., 3) of the unmoved space."""
        inverse = np.linalg.inv(self.ijk_to_ras)
        index = transform_points(inverse, points.reshape(-1, 3))
        reach = margin / np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        shape = np.array(self.pixels.shape[::-1])
        low = np.clip(np.floor(index.min(axis=0) - reach), 0, shape - 1).astype(int)
        high = np.clip(np.ceil(index.max(axis=0) + reach) + 1, low + 1, shape).astype(int)
        part = object.__new__(BlockVolume)
        part.block, part.pitch, part.step = self.block, self.pitch, self.step
        box = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
        part.pixels, part.valid = self.pixels[box], self.valid[box]
        part.ijk_to_ras = self.ijk_to_ras.copy()
        part.ijk_to_ras[:3, 3] += self.ijk_to_ras[:3, :3] @ low
        part.planes = self.planes[(self.planes >= low[2]) & (self.planes < high[2])] - low[2]
        return part

    def corners(self) -> NDArray[np.float64]:
        """The eight outermost voxels' centres (8, 3) in the unmoved space."""
        ends = np.stack(np.meshgrid(*[(0.0, n - 1.0) for n in self.pixels.shape[::-1]], indexing="ij"), -1)
        return transform_points(self.ijk_to_ras, ends.reshape(-1, 3))

    @functools.cached_property
    def _spectra(self) -> tuple[tuple[int, ...], NDArray[np.complex64], NDArray[np.complex64]]:
        from scipy.fft import next_fast_len, rfftn

        reach = 1.5 * self.block.slices.spacing + 8.0  # mm that a blur may reach beyond the volume
        pads = np.minimum(np.ceil(reach / np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0))[::-1], 24)
        shape = tuple(
            next_fast_len(int(n + pad), real=True) for n, pad in zip(self.pixels.shape, pads, strict=True)
        )
        return shape, rfftn(self.pixels, shape), rfftn(self.valid, shape)

    def blurred(
        self, direction: NDArray[np.float64], thickness: float, interpolation: float, smooth: float = 0.0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Voxels after a box of `thickness` and a triangle of half width `interpolation`, mm, along `direction`.

        By Fourier transform, so that any direction is exact. `smooth` is the standard deviation of a Gaussian in
        all directions, mm. What was not acquired does not count.

        Returns:
            values, and the share of each value's weight that was acquired.
        """
        from scipy.fft import irfftn

        checkpoint()

        shape, pixels, valid = self._spectra
        inverse = np.linalg.inv(self.ijk_to_ras[:3, :3])
        frequencies = [np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])]
        k, j, i = np.meshgrid(*(f.astype(np.float32) for f in frequencies), indexing="ij", sparse=True)

        def cycles(axis: NDArray[np.float64]) -> NDArray[np.float32]:
            """Frequencies along a direction, per mm, from voxel steps (i, j, k) for a millimetre."""
            x, y, z = axis.astype(np.float32)
            return i * x + j * y + k * z

        along = torch.from_numpy(cycles(inverse @ direction))
        profile = torch.sinc(thickness * along)
        if interpolation > 0:
            profile *= torch.sinc(interpolation * along) ** 2
        kernel = profile.numpy()
        if smooth > 0:
            total = sum(cycles(inverse[:, axis]) ** 2 for axis in range(3))
            kernel = kernel * np.exp(np.float32(-2 * np.pi**2 * smooth**2) * total)
        crop = tuple(slice(0, n) for n in self.pixels.shape)
        values, mass = irfftn(pixels * kernel, shape)[crop], irfftn(valid * kernel, shape)[crop]
        values, mass = (values / np.maximum(mass, 0.2)).astype(np.float32), mass * self.valid
        # Interpolation at the ends must not meet nothing.
        held = np.flatnonzero(self.valid.any(axis=(1, 2)))
        if len(held):
            nearest = held[np.abs(np.arange(len(values))[:, None] - held).argmin(axis=1)]
            values = values[nearest]
        return np.ascontiguousarray(values), np.ascontiguousarray(mass, np.float32)


class View:
    """Windows on the slices of one block, seen as `moving` sees them, and `moving` seen as they see it.

    Points and volume lie in the unmoved spaces of their blocks. Arrays (W, n): n points in each of W windows.
    """

    def __init__(
        self,
        fixed: BlockVolume,
        moving: BlockVolume,
        relative: NDArray[np.float64],
        reach: float,
        most: int,
        smooth: float,
        middle: NDArray[np.float64],
        seed: int = 0,
    ) -> None:
        a, b = fixed.block, moving.block
        blur = 1.5 * max(a.slices.spacing, b.slices.spacing) + 3 * smooth + 2 * moving.pitch
        back = np.linalg.inv(relative)
        fixed = fixed.near(transform_points(back, moving.corners()), reach + blur)
        values, mass = fixed.blurred(
            relative[:3, :3].T @ b.normal, b.slices.thickness, b.interpolation, smooth
        )
        self._windows(fixed.planes, fixed.ijk_to_ras, values, mass)
        self.inverse = np.linalg.inv(moving.ijk_to_ras)
        self.shape = np.array(moving.pixels.shape[::-1])
        self.steps = np.linalg.norm(moving.ijk_to_ras[:3, :3], axis=0)
        self._choose(relative, reach, most, middle, seed)
        if not len(self.f):
            return
        points = transform_points(relative, self.points.reshape(-1, 3))
        moving = moving.near(points, max(reach, 4.0) + blur)
        values, mass = moving.blurred(relative[:3, :3] @ a.normal, a.slices.thickness, 0.0, smooth)
        self.inverse = np.linalg.inv(moving.ijk_to_ras)
        self.shape = np.array(values.shape[::-1])
        self.channels, self.floor_moving = volume_channels(values, mass)
        self.origin = self.points.reshape(-1, 3).mean(axis=0)
        self.places = torch.from_numpy((self.points - self.origin).astype(np.float32))

    def _windows(
        self,
        chosen: NDArray[Any],
        matrix: NDArray[np.float64],
        values: NDArray[np.float32],
        mass: NDArray[np.float32],
    ) -> None:
        """Cut the planes `chosen` of a volume, whose `ijk_to_ras` is `matrix`, into windows."""
        checkpoint()
        size, stride = WINDOW, (WINDOW + 1) // 2
        _, rows, columns = values.shape
        size_j, size_i = min(size, rows), min(size, columns)
        picked = [
            torch.from_numpy(np.ascontiguousarray(array[chosen]))
            .unfold(1, size_j, stride)
            .unfold(2, size_i, stride)
            for array in (values, mass)
        ]
        planes, nj, ni = picked[0].shape[:3]
        self.f = picked[0].reshape(planes * nj * ni, size_j * size_i).clone()
        self.valid = (picked[1] > MASS_NEEDED).reshape(planes * nj * ni, size_j * size_i)
        k, j, i = np.meshgrid(chosen, np.arange(nj) * stride, np.arange(ni) * stride, indexing="ij")
        corner = np.stack([i, j, k], -1).reshape(-1, 3)
        dj, di = np.meshgrid(np.arange(size_j), np.arange(size_i), indexing="ij")
        offsets = np.stack([di.ravel(), dj.ravel(), np.zeros(di.size)], -1)
        self._corner, self._offsets, self._matrix = corner, offsets, matrix
        self.centres = transform_points(matrix, corner + offsets.mean(axis=0))

    def _choose(
        self,
        relative: NDArray[np.float64],
        reach: float,
        most: int,
        middle: NDArray[np.float64],
        seed: int,
    ) -> None:
        """Keep windows with structure in the moving block or within `reach` of it, a third of them central."""
        enough = self.valid.float().mean(dim=1).numpy() >= POINTS_NEEDED
        weight = self.valid.float()
        n = weight.sum(dim=1).clamp_min(1)
        mean = (self.f * weight).sum(dim=1) / n
        variance = (((self.f - mean[:, None]) * weight) ** 2).sum(dim=1).div(n).numpy()
        self.floor = _noise_floor(variance[enough]) if enough.any() else 1.0
        to_index = self.inverse @ relative
        index = transform_points(to_index, self.centres)
        margin = reach / self.steps
        near = ((index >= -margin) & (index <= self.shape - 1 + margin)).all(axis=1)
        chosen = np.flatnonzero(enough & near & (variance > self.floor))
        if len(chosen) > most:
            chosen = np.random.default_rng(seed).permutation(chosen)
            central = np.linalg.norm(self.centres[chosen] - middle, axis=1) < CENTRAL_MM
            inner, outer = chosen[central], chosen[~central]
            inner = inner[: max(most // 3, most - len(outer))]
            chosen = np.sort(np.concatenate([inner, outer[: most - len(inner)]]))
        self.f, self.valid, self.centres = self.f[chosen], self.valid[chosen], self.centres[chosen]
        self.points = transform_points(self._matrix, self._corner[chosen, None, :] + self._offsets[None])
        del self._corner, self._offsets, self._matrix

    @classmethod
    def of_slice(
        cls,
        pixels: NDArray[np.float32],
        ijk_to_ras: NDArray[np.float64],
        volume: NDArray[np.float32],
        mass: NDArray[np.float32],
        volume_to_ras: NDArray[np.float64],
        most: int,
    ) -> View:
        """Windows of one slice, against a volume that has been averaged over the slice's thickness already.

        Args:
            pixels: (rows, columns) of the slice; ijk_to_ras: (4, 4) its pose.
            volume, mass: (Z, rows, columns), and the share of it that was acquired; volume_to_ras: (4, 4).
        """
        view = object.__new__(cls)
        view._windows(np.zeros(1, int), ijk_to_ras, pixels[None], _acquired(pixels[None]))
        view.inverse = np.linalg.inv(volume_to_ras)
        view.shape = np.array(volume.shape[::-1])
        view.steps = np.linalg.norm(volume_to_ras[:3, :3], axis=0)
        view._choose(np.eye(4), 0.0, most, view.centres.mean(axis=0), 0)
        if len(view.f):
            view.origin = view.points.reshape(-1, 3).mean(axis=0)
            view.places = torch.from_numpy((view.points - view.origin).astype(np.float32))
        return view

    def subset(self, chosen: NDArray[np.bool_]) -> View:
        """The same with some of the windows."""
        part = object.__new__(View)
        part.__dict__.update(self.__dict__)
        part.f, part.valid = self.f[chosen], self.valid[chosen]
        part.points, part.centres = self.points[chosen], self.centres[chosen]
        part.places = self.places[chosen]
        return part

    def sample(
        self, relative: NDArray[np.float64], slopes: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The moving block where the windows' points lie after `relative` (4, 4), to its unmoved space.

        Returns:
            (W, n) values, (W, n) whether they were acquired, (W, n, 3) slopes per mm of that space or None.
        """
        scale = 2 / np.maximum(self.shape - 1, 1)
        matrix = scale[:, None] * (self.inverse @ relative)[:3]
        offset = matrix[:, :3] @ self.origin + matrix[:, 3] - 1
        grid = self.places @ torch.from_numpy(matrix[:, :3].T.astype(np.float32))
        grid += torch.from_numpy(offset.astype(np.float32))
        channels = self.channels if slopes else self.channels[:, :2]
        found = torch.nn.functional.grid_sample(
            channels, grid[None, None], align_corners=True, padding_mode="border"
        )[0, :, 0]
        inside = (found[1] > MASS_NEEDED) & (grid.abs() <= 1).all(dim=-1)
        if not slopes:
            return found[0], inside, None
        back = torch.from_numpy(self.inverse[:3, :3].astype(np.float32))
        return found[0], inside, found[2:].permute(1, 2, 0) @ back


def volume_channels(values: NDArray[np.float32], mass: NDArray[np.float32]) -> tuple[torch.Tensor, float]:
    """(1, 5, Z, rows, columns): values, acquired share and three slopes of a volume; and its noise floor."""
    checkpoint()
    size = min(WINDOW, *values.shape[1:])
    pool = functools.partial(torch.nn.functional.avg_pool2d, kernel_size=size, stride=max(1, size // 2))
    image, acquired = torch.from_numpy(values), torch.from_numpy(mass)
    whole = pool((acquired > MASS_NEEDED).float()[:, None]) > 0.99
    centred = (image - image.mean())[:, None]
    variance = (pool(centred**2) - pool(centred) ** 2)[whole].clamp_min(0).numpy()
    slopes = [_slope(image, axis) for axis in (2, 1, 0)]
    return torch.stack([image, acquired, *slopes])[None], _noise_floor(variance)


def _slope(image: torch.Tensor, axis: int) -> torch.Tensor:
    """Central differences, per voxel; zero where there is one voxel."""
    if image.shape[axis] < 2:
        return torch.zeros_like(image)
    return torch.gradient(image, dim=axis)[0]


def _noise_floor(variance: NDArray[np.float32]) -> float:
    """Variance below which a window holds nothing to compare: air and noise, or a fiftieth of strong structure."""
    if not len(variance):
        return 1.0
    low, high = np.percentile(variance, [10, 90])
    return float(max(min(2 * low, 0.1 * high) + 0.02 * high, 1e-12))


def _acquired(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 where pixels vary, 0 at and beside those that equal their neighbours: zero filling, masks, nothing at all."""
    flat = np.ones(pixels.shape, bool)
    for axis in (1, 2):
        if pixels.shape[axis] > 1:
            same = np.diff(pixels, axis=axis) == 0
            ends = [(0, 0)] * 3
            ends[axis] = (1, 1)
            same = np.pad(same, ends, constant_values=True)
            upper, lower = [slice(None)] * 3, [slice(None)] * 3
            upper[axis], lower[axis] = slice(1, None), slice(None, -1)
            flat &= same[tuple(upper)] & same[tuple(lower)]
    beside = flat.copy()
    beside[:, 1:] |= flat[:, :-1]
    beside[:, :-1] |= flat[:, 1:]
    flat = beside.copy()
    beside[:, :, 1:] |= flat[:, :, :-1]
    beside[:, :, :-1] |= flat[:, :, 1:]
    return (~beside).astype(np.float32)


def _binned(pixels: NDArray[np.float32], fj: int, fi: int) -> NDArray[np.float32]:
    """Means of fj x fi pixels; what is left at the end is dropped."""
    count, rows, columns = pixels.shape
    rows, columns = rows // fj, columns // fi
    cut = pixels[:, : rows * fj, : columns * fi].reshape(count, rows, fj, columns, fi)
    return cut.mean(axis=(2, 4), dtype=np.float32)


__all__ = ["CENTRAL_MM", "Block", "BlockVolume", "View", "blocks_of", "common_middle"]
