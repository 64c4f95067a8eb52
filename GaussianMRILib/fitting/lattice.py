"""From a volume of voxels to a lattice of Gaussians that holds it, and back.

On a lattice with a pitch of one pixel in-plane and two or more sub-slices across, normalised Gaussians with standard
deviations of 0.6 pitches are nearly an interpolating basis, and a product over the axes. So least-squares colours are
three small matrix products: with half as many Gaussians as voxels the field equals the volume to 40-45 dB.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ..gaussians import GaussianLattice, PlaneBatch
from ..gaussians.lattice import BRICK, FULL_DENSITY, REACH, WIDTH
from ..geometry import ImagePlane, slice_poses, transform_points
from ..interruption import checkpoint
from ..volumes import Volume

#: Nodes beyond the volume on each side, so that its border is as well covered as its middle.
BORDER = 2
#: Colours that hardly show in the image must not grow: share of the mean diagonal added to the normal equations.
DAMPING = 1e-4
#: Voxels that are worked on together, so that a fit that is called off ends soon.
VOXELS_AT_ONCE = 16_000_000


def lattice_of_volume(volume: Volume, low: float, high: float, depth: int = 2) -> GaussianLattice:
    """The lattice for a volume, with least-squares colours.

    Args:
        volume: sub-slices; outside it the border's values go on.
        low, high: intensities of normalised 0 and 1.
        depth: pitch across the slices in sub-slices; one pixel in-plane.
    """
    colours = torch.from_numpy(volume.pixels)
    size = (depth, 1, 1)
    for axis, step in enumerate(size):
        solution = _least_squares(colours.shape[axis], step)
        other = 1 if axis == 0 else 0
        parts = []
        for part in colours.split(max(1, VOXELS_AT_ONCE * colours.shape[other] // colours.numel()), dim=other):
            checkpoint()
            parts.append(torch.movedim(torch.tensordot(solution, part, dims=([1], [axis])), 0, axis))
        colours = torch.cat(parts, dim=other)
    colours = colours.sub_(low).div_(high - low)
    # Node (0, 0, 0) lies `BORDER` pitches before the first block of voxels, whose centre is half a block in.
    first = np.array([(0.5 - BORDER) * step - 0.5 for step in size[::-1]])
    matrix = volume.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, :3] @ first
    matrix[:3, :3] = matrix[:3, :3] * np.array(size[::-1])
    return GaussianLattice.of_box(colours, matrix)


def volume_of_lattice(lattice: GaussianLattice) -> Volume:
    """The normalised image at all places of nodes in a lattice's box, its median where no brick is."""
    columns, rows, count = (n * BRICK for n in reversed(lattice.table.shape))
    planes = [ImagePlane(pose, (rows, columns)) for pose in slice_poses(lattice.node_to_ras, count)]
    image, density = lattice.render(PlaneBatch.from_planes(planes, device=lattice.nodes.device))
    shown = density > 0.5 * FULL_DENSITY
    image[~shown] = image[shown].median()
    return Volume(image.reshape(count, rows, columns).cpu().numpy(), lattice.node_to_ras)


def gaussians_at_nodes(parameters: torch.Tensor, lattice: GaussianLattice) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and sums of weights of Gaussians (11, N) at a lattice's nodes, both (B, 8, 8, 8), a layer of bricks at once."""
    image, density = torch.zeros_like(lattice.nodes), torch.zeros_like(lattice.nodes)
    _, tall, wide = lattice.table.shape
    shape = (tall * BRICK, wide * BRICK)
    poses = slice_poses(lattice.node_to_ras, len(lattice.table) * BRICK)
    for number, bricks in enumerate(lattice.table):
        here = bricks >= 0
        if not here.any():
            continue
        planes = [ImagePlane(pose, shape) for pose in poses[number * BRICK : (number + 1) * BRICK]]
        found = PlaneBatch.from_planes(planes, device=parameters.device).render(parameters)
        for target, values in ((image, found[0]), (density, found[2])):
            boxes = values.reshape(BRICK, tall, BRICK, wide, BRICK).permute(1, 3, 0, 2, 4)
            target[bricks[here].long()] = boxes[here]
    return image, density


def lattice_error(lattice: GaussianLattice, volume: Volume, low: float, high: float, step: int = 32) -> float:
    """RMS difference of lattice and volume on every `step`-th sub-slice, normalised."""
    first = ImagePlane(volume.ijk_to_ras, volume.pixels.shape[1:])
    chosen = range(step // 2 % len(volume.pixels), len(volume.pixels), step)
    planes = []
    for k in chosen:
        matrix = volume.ijk_to_ras.copy()
        matrix[:3, 3] += k * matrix[:3, 2]
        planes.append(ImagePlane(matrix, first.shape))
    image, _ = lattice.render(PlaneBatch.from_planes(planes, device=lattice.nodes.device))
    target = torch.from_numpy((volume.pixels[list(chosen)].reshape(-1) - low) / (high - low))
    return float((image.cpu() - target).square().mean().sqrt())


def _least_squares(length: int, step: int) -> torch.Tensor:
    """(nodes, length): colours along one axis from voxels, whose border values go on beyond it."""
    nodes = -(-length // step) + 2 * BORDER
    nodes += -nodes % BRICK
    total = nodes * step
    centres = (torch.arange(nodes, dtype=torch.float64) + 0.5) * step - 0.5
    distance = (torch.arange(total, dtype=torch.float64)[:, None] - centres) / step
    basis = torch.exp(-0.5 * (distance / WIDTH) ** 2) * (distance.abs() < REACH)
    basis /= basis.sum(dim=1, keepdim=True)
    gram = basis.T @ basis
    gram += DAMPING * gram.diagonal().mean() * torch.eye(nodes, dtype=torch.float64)
    solution = torch.linalg.solve(gram, basis.T)  # (nodes, total)
    source = (torch.arange(total) - BORDER * step).clamp(0, length - 1)
    folded = torch.zeros(nodes, length, dtype=torch.float64).index_add_(1, source, solution)
    return folded.float()


def smooth_at_nodes(
    lattice: GaussianLattice,
    corners: NDArray[np.int64],
    function: Callable[[NDArray[np.float64]], torch.Tensor],
    count: int,
) -> torch.Tensor:
    """(n, b, 8, 8, 8) of a smooth function at the nodes of bricks; computed at count^3 places of each and interpolated.

    Args:
        corners: (b, 3) of the bricks, see `GaussianLattice.corners`.
        function: (n, N) at RAS points (N, 3), mm.
        count: 2 or more; with 8 it is computed at every node.
    """
    few = np.linspace(0, BRICK - 1, count)
    z, y, x = np.meshgrid(few, few, few, indexing="ij")
    places = corners[:, None] + np.stack([x, y, z], axis=-1).reshape(-1, 3)
    found = function(transform_points(lattice.node_to_ras, places.reshape(-1, 3))).float()
    found = found.reshape(len(found), len(places), count**3).to(lattice.nodes.device)
    if count < BRICK:
        tents = np.maximum(1 - np.abs(np.arange(BRICK)[:, None] - few) / (few[1] - few[0]), 0)
        weights = np.einsum("kz,jy,ix->zyxkji", tents, tents, tents).reshape(count**3, BRICK**3)
        found = found @ torch.from_numpy(weights.astype(np.float32)).to(found.device)
    return found.reshape(*found.shape[:2], BRICK, BRICK, BRICK)
