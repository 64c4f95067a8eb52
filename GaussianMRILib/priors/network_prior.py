"""Apply the prior network to an acquired stack."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ..device import multiplies_bfloat16
from ..errors import GaussianMRIError
from ..interruption import checkpoint
from ..stacks import SliceStack, slice_columns
from ..volumes import Volume, default_factor, enforce, intensity_range, noise_level, upsample
from .network import PriorNetwork, basis_matrix, condition_vector, load_network

#: Pixels and slices around a tile that the convolutions see; the rest of their reach changes nothing visible.
HALO = 8
#: Slices added at either end of a scan, so that its end does not look like air.
HALO_SLICES = 2
#: Numbers in one layer's activations of a tile with its halo: 256 MB.
LARGEST_LAYER = 64_000_000
#: Layers of a tile that are there at once: a block's input, its hidden layer, and what is between two factors, with the
#: convolutions' own copies. It was 2.9 and 3.3 at 19 and 12 slices of 256 and 400 pixels.
LAYERS_AT_ONCE = 3
Progress = Callable[[float], None]


def working_bytes(stack: SliceStack) -> int:
    """Bytes that `network_prior` takes on a processor while it computes, besides volumes; 0 where it has nothing to do."""
    network = load_network()
    if network is None or len(stack.pixels) < 3 or default_factor(stack) == 1:
        return 0
    tall, wide = _tile(*stack.shape, LARGEST_LAYER // network.channels)
    return 4 * LAYERS_AT_ONCE * network.channels * _seen(len(stack.pixels), tall, wide)


def network_prior(
    stack: SliceStack,
    factor: int | None = None,
    network: PriorNetwork | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    range_: tuple[float, float] | None = None,
    turns: int = 1,
) -> Volume:
    """What probably lies between the slices: cubic interpolation + network residual, made consistent with the slices.

    Args:
        stack: parallel slices on one line (gaps and irregular spacing allowed).
        factor: sub-slices per median slice spacing; default: voxels about as long as the finer pixel.
        network: default: the weights that come with the library.
        progress: called with the fraction done, 0 to 1, after each block of layers; it may raise to stop.
        range_: intensities that the network sees as 0 and 1; default: from the stack's percentiles.
        turns: 1, or 2 for the mean with the image turned by 180 degrees: about 0.06 dB better, twice as long.

    Raises:
        GaussianMRIError: no weights, or slices that are not parallel and on one line.
    """
    network = network or load_network()
    if network is None:
        raise GaussianMRIError("The prior network's weights are not installed; use the ridge prior.")
    factor = default_factor(stack) if factor is None else factor
    base = upsample(stack, factor=factor)
    columns = slice_columns(stack)
    if columns is None or len(stack.pixels) < 3 or factor == 1:
        return base
    low, high = range_ or intensity_range(stack.pixels)
    regular, start = _regular_slices(stack, columns.positions)
    slices = (regular - low) / (high - low)
    ratio = stack.spacing / math.sqrt(stack.pixel_spacing[0] * stack.pixel_spacing[1])
    condition = condition_vector(
        float(np.clip(ratio, *network.ratio_range)),
        float(np.clip(stack.thickness / stack.spacing, 0.6, 1.2)),
        float(np.clip(noise_level(slices), 0.003, 0.03)),
    )
    # The volume's sub-slices in units of the regular slices: the nearest slice and the phase beside it.
    first = float((base.ijk_to_ras[:3, 3] - stack.ijk_to_ras[0, :3, 3]) @ stack.ijk_to_ras[0, :3, 2])
    step = float(base.ijk_to_ras[:3, 2] @ stack.ijk_to_ras[0, :3, 2])
    z = (first + step * np.arange(len(base.pixels)) - start) / stack.spacing
    nearest = np.clip(np.round(z), 0, len(slices) - 1).astype(int)
    cosines = basis_matrix(torch.from_numpy(np.clip(z - nearest, -0.5, 0.5)).float(), network.basis)
    pixels = base.pixels.copy()
    network = network.to(device)
    for turn in range(turns):
        # Turned by 180 degrees in-plane the network errs a little differently: the mean is better than either.
        seen = slices[:, ::-1, ::-1] if turn else slices
        target = pixels[:, ::-1, ::-1] if turn else pixels

        def report(done: float, turn: int = turn) -> None:
            if progress is not None:
                progress((turn + done) / turns)

        for rows, cols, residual in _residual_tiles(
            network, seen, condition, nearest, cosines, device, report
        ):
            target[:, rows, cols] += residual * ((high - low) / turns)
    return enforce(Volume(pixels, base.ijk_to_ras, hull=base.hull, order=base.order), stack)


def _regular_slices(stack: SliceStack, positions: NDArray[np.float64]) -> tuple[NDArray[np.float32], float]:
    """Slices at equal steps of the median spacing, acquired where there is one, else interpolated; the first's position."""
    if stack.grid() is not None:
        return stack.pixels, 0.0
    filled = upsample(stack, factor=1)
    normal = stack.ijk_to_ras[0, :3, 2]
    start = float((filled.ijk_to_ras[:3, 3] - stack.ijk_to_ras[0, :3, 3]) @ normal)
    at = start + float(filled.ijk_to_ras[:3, 2] @ normal) * np.arange(len(filled.pixels))
    nearest = np.abs(at[:, None] - positions).argmin(axis=1)
    acquired = np.abs(positions[nearest] - at) < 0.05 * stack.spacing
    filled.pixels[acquired] = stack.pixels[nearest[acquired]]
    return filled.pixels, start


def _residual_tiles(
    network: PriorNetwork,
    slices: NDArray[np.float32],
    condition: list[float],
    nearest: NDArray[np.int64],
    cosines: torch.Tensor,
    device: torch.device | str,
    progress: Progress,
) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Yield (row slice, column slice, residual (Z, rows, columns)) tile by tile: memory stays bounded for any matrix."""
    count, rows, columns = slices.shape
    told = torch.tensor([condition], dtype=torch.float32, device=device)
    tall, wide = _tile(count, rows, columns, LARGEST_LAYER // network.channels)
    corners = [(r, c) for r in range(0, rows, tall) for c in range(0, columns, wide)]
    first_of = np.searchsorted(nearest, np.arange(count + 1))
    for number, (r, c) in enumerate(corners):
        height, width = min(tall, rows - r), min(wide, columns - c)
        tile, top, left = _tile_with_halo(slices, r, c, height, width)

        def step(share: float, number: int = number) -> None:
            progress((number + share) / len(corners))

        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16("cpu")),
        ):
            coefficients = network(tile.to(device), told, step)[0]
        coefficients = coefficients[:, HALO_SLICES:, top : top + height, left : left + width].cpu()
        residual = np.empty((len(nearest), height, width), dtype=np.float32)
        for k in range(
            count
        ):  # a slice at a time: a copy of all coefficients for each sub-slice would be huge
            checkpoint()
            part = slice(first_of[k], first_of[k + 1])
            values = cosines[part] @ coefficients[:, k].float().reshape(network.basis, -1)
            residual[part] = values.reshape(-1, height, width).numpy()
        progress((number + 1) / len(corners))
        yield slice(r, r + height), slice(c, c + width), residual


def _tile_with_halo(
    slices: NDArray[np.float32], r: int, c: int, height: int, width: int
) -> tuple[torch.Tensor, int, int]:
    """(1, 1, slices, rows, columns) around a tile, and where the tile's first row and column are in it.

    Borders are replicated where the scan ends: the network's own zero padding would look like a black edge.
    """
    _, rows, columns = slices.shape
    r0, r1 = max(r - HALO, 0), min(r + height + HALO, rows)
    c0, c1 = max(c - HALO, 0), min(c + width + HALO, columns)
    before = (HALO if r0 == 0 else 0, HALO if c0 == 0 else 0)
    after = (HALO if r1 == rows else 0, HALO if c1 == columns else 0)
    tile = torch.from_numpy(np.ascontiguousarray(slices[None, None, :, r0:r1, c0:c1]))
    edges = [before[1], after[1], before[0], after[0], HALO_SLICES, HALO_SLICES]
    return torch.nn.functional.pad(tile, edges, mode="replicate"), r - r0 + before[0], c - c0 + before[1]


def _tile(count: int, rows: int, columns: int, largest: int) -> tuple[int, int]:
    """Rows and columns of equal tiles, as few as `largest` pixels allow: their halos are computed for nothing."""
    splits = [1, 1]
    while True:
        tall, wide = -(-rows // splits[0]), -(-columns // splits[1])
        if _seen(count, tall, wide) <= largest or max(tall, wide) <= HALO:
            return tall, wide
        splits[0 if tall >= wide else 1] += 1


def _seen(count: int, tall: int, wide: int) -> int:
    """Pixels of a tile with its halo."""
    return (count + 2 * HALO_SLICES) * (tall + 2 * HALO) * (wide + 2 * HALO)
