"""Where the Gaussians start: on a lattice that is finer where there is detail, stretched along the structures.

Covariances follow the structure tensor of a first guess of the volume: long along edges and tubes, thin across them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from ..gaussians.planes import upper_factor
from ..interruption import checkpoint
from ..volumes import Volume

#: sigma_i = sigma0 * clip((mean eigenvalue / eigenvalue i)^EXPONENT, *STRETCH); eigenvalues no less than FLOOR * median.
EXPONENT, STRETCH, FLOOR = 2.0, (0.4, 2.75), 0.01
TENSOR_SIGMA_PIXELS = 2.0
LARGEST_TENSOR = 12_000_000
#: So that a fit that is called off ends within a fraction of a second.
MATRICES_AT_ONCE = 200_000


def detail_lattice(
    volume: NDArray[np.float32], spacing: NDArray[np.float64], count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places for about `count` Gaussians: cells of an octree, split where the volume varies most.

    Args:
        volume: (Z, rows, columns) first guess, normalised.
        spacing: (3,) mm along (Z, rows, columns).
        count: Gaussians wanted.
        generator: of the jitter.

    Returns:
        (N, 3) places in voxel indices (z, row, column), float32, and (N,) edge of each one's cell, mm.
    """
    size = torch.tensor(volume.shape, dtype=torch.float64) * torch.as_tensor(spacing, dtype=torch.float64)
    # The cell edge at which all cells of one size would be `count`; the octree then has coarser and finer ones.
    edge = float((size.prod() / count) ** (1 / 3)) * 2.0
    cells = [max(1, round(float(s) / edge)) for s in size]
    image = torch.from_numpy(volume)[None, None]
    levels = [_cell_variance(image, [n * 2**level for n in cells]) for level in range(3)]
    split: torch.Tensor | None = None
    # Greedy: of all cells of the first two levels, split those whose removal of variance per new Gaussian is largest.
    budget = (count - levels[0].numel()) // 7
    gain0 = (levels[0] * 8).reshape(-1)
    gain1 = levels[1].reshape(-1)
    threshold = torch.sort(torch.cat([gain0, gain1]), descending=True).values[
        min(max(budget, 1), gain0.numel() + gain1.numel()) - 1
    ]
    places, edges = [], []
    for level, variance in enumerate(levels):
        gain = variance * (8 if level == 0 else 1)
        alive = torch.ones_like(variance, dtype=torch.bool) if split is None else _refine(split)
        split = alive & (gain >= threshold) if level < 2 else torch.zeros_like(alive)
        index = torch.nonzero(alive & ~split).float()
        jitter = torch.rand(index.shape, generator=generator, dtype=torch.float32) - 0.5
        shape = torch.tensor(variance.shape)
        places.append((index + 0.5 + 0.5 * jitter) / shape * torch.tensor(volume.shape) - 0.5)
        edges.append(torch.full((len(index),), float((size / shape).prod() ** (1 / 3)), dtype=torch.float32))
    found, found_edges = torch.cat(places).float(), torch.cat(edges).float()
    # Neighbours in space are neighbours in memory: the kernels cull and gather by runs of Gaussians.
    order = torch.from_numpy(_morton_order(found.numpy() * np.asarray(spacing, np.float32)))
    return found[order], found_edges[order]


def _morton_order(places: NDArray[np.float32]) -> NDArray[np.int64]:
    cells = np.clip((places - places.min(axis=0)) / max(float(np.ptp(places)), 1e-6) * 1023, 0, 1023).astype(
        np.int64
    )
    key = np.zeros(len(cells), np.int64)
    for bit in range(10):
        for axis in range(3):
            key |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(key, kind="stable")


def _cell_variance(image: torch.Tensor, cells: list[int]) -> torch.Tensor:
    checkpoint()
    size = (cells[0], cells[1], cells[2])
    mean = torch.nn.functional.adaptive_avg_pool3d(image, size)
    square = torch.nn.functional.adaptive_avg_pool3d(image**2, size)
    return (square - mean**2).clamp(min=0)[0, 0]


def _refine(mask: torch.Tensor) -> torch.Tensor:
    return mask.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)


def structure_tensor(volume: NDArray[np.float32], spacing: NDArray[np.float64]) -> torch.Tensor:
    """Smoothed outer products of the gradient per mm on a grid of every second voxel.

    Returns:
        (6, Z', rows', columns'): zz, zy, zx, yy, yx, xx in the order of the volume's axes.
    """
    from scipy.ndimage import gaussian_filter

    image = torch.from_numpy(volume)[None, None]
    pixel = float(min(spacing))
    while image.numel() > LARGEST_TENSOR:  # orientations need no more detail, and memory is finite
        image = torch.nn.functional.avg_pool3d(image, 2, ceil_mode=True, count_include_pad=False)
        spacing, pixel = spacing * 2, pixel * 2
    gradients = []
    for axis in range(3):
        checkpoint()
        image_axis = (
            torch.gradient(image, spacing=float(spacing[axis]), dim=2 + axis)[0]
            if image.shape[2 + axis] > 1
            else image * 0
        )
        gradients.append(image_axis)
    products = torch.cat(
        [gradients[a] * gradients[b] for a, b in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))], 1
    )
    stride = [2 if n >= 8 else 1 for n in image.shape[2:]]
    products = torch.nn.functional.avg_pool3d(products, stride, ceil_mode=True, count_include_pad=False)[0]
    sigmas = [TENSOR_SIGMA_PIXELS * pixel / (float(mm) * n) for mm, n in zip(spacing, stride, strict=True)]
    for product in products.numpy():
        checkpoint()
        gaussian_filter(product, sigmas, mode="nearest", truncate=2.5, output=product)
    return products


def steered_gaussians(
    guess: Volume, low: float, high: float, count: int, width: float, seed: int
) -> torch.Tensor:
    """Gaussians (11, N) that start as the guess: on a detail lattice, steered, coloured by the guess.

    Args:
        guess: the volume, image intensities.
        low, high: intensities of normalised 0 and 1.
        count: about how many.
        width: sigma0 in cell edges.
        seed: of the jitter.
    """
    volume = ((guess.pixels - low) / (high - low)).astype(np.float32)
    steps = guess.ijk_to_ras[:3, [2, 1, 0]]
    spacing = np.linalg.norm(steps, axis=0)
    generator = torch.Generator().manual_seed(seed)
    places, edges = detail_lattice(volume, spacing, count, generator)
    tensor = structure_tensor(volume, spacing)
    tensors = _sample_grid(tensor, places, volume.shape)
    matrices = torch.stack([tensors[i] for i in (0, 1, 2, 1, 3, 4, 2, 4, 5)], -1).reshape(-1, 3, 3)
    values, vectors = _eigen(matrices)
    values = values.clamp(min=FLOOR * float(values[:, 2].median()) + 1e-12)
    mean = values.log().mean(1, keepdim=True).exp()
    sigma = (width * edges)[:, None] * ((mean / values) ** EXPONENT).clamp(*STRETCH)
    # From the volume's axes to RAS; for sheared volumes this is the nearest thing to a rotation.
    axes = torch.from_numpy(steps / spacing).float()
    vectors = axes @ vectors
    precision = (vectors / sigma[:, None, :] ** 2) @ vectors.transpose(1, 2)
    colours = _sample_grid(torch.from_numpy(volume)[None], places, volume.shape)[0]
    ras = places.double() @ torch.from_numpy(steps.T) + torch.from_numpy(guess.ijk_to_ras[:3, 3])
    parameters = torch.empty(11, len(places), dtype=torch.float32)
    parameters[0:3] = ras.T.float()
    parameters[3:9] = upper_factor(precision)
    parameters[9] = colours
    parameters[10] = 0.6
    return parameters


def _eigen(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (N, 3), rising, and vectors (N, 3, 3); torch alone would use one thread for small matrices."""
    threads = torch.get_num_threads()
    parts: list[tuple[torch.Tensor, torch.Tensor]] = []
    with ThreadPoolExecutor(threads) as pool:
        for some in matrices.split(MATRICES_AT_ONCE):
            checkpoint()
            parts += pool.map(torch.linalg.eigh, some.chunk(threads))
    return torch.cat([values for values, _ in parts]), torch.cat([vectors for _, vectors in parts])


def _sample_grid(values: torch.Tensor, places: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Trilinear values (C, N) of a grid (C, z, y, x) that spans a volume of `shape`, at voxel indices (N, 3)."""
    relative = 2 * (places + 0.5) / torch.tensor(shape) - 1
    grid = relative.flip(1).reshape(1, 1, 1, -1, 3)
    sampled = torch.nn.functional.grid_sample(
        values[None].float(), grid, padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0, 0]
