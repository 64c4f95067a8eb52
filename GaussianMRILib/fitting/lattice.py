"""A field that holds a whole volume: Gaussians on the voxels' own lattice, coarser where the volume is smooth.

On a lattice with a pitch of one pixel in-plane and two across, and standard deviations of 0.6 pitches, normalised Gaussians
are nearly an interpolating basis: with colours solved by least squares the field equals the volume to 40-45 dB with half
as many Gaussians as voxels. Where several stacks make all directions sharp the pitch is one in all of them. Blocks
that a twice coarser lattice holds as well get one Gaussian instead of eight.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch.nn.functional import avg_pool3d, interpolate, max_pool3d, pad

from ..gaussians import CUT
from .steering import upper_factor
from .targets import VolumePlanes

#: Standard deviation of a Gaussian in pitches of its lattice.
WIDTH = 0.6
#: Beyond so many standard deviations a Gaussian weighs nothing (the square root of the field's cut).
REACH = CUT**0.5
LEVELS = 3


def lattice_gaussians(
    volume: torch.Tensor,
    steps: torch.Tensor,
    origin: torch.Tensor,
    tolerance: float,
    most: int,
    depths: Sequence[int] = (2,),
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Gaussians (11, N) for a volume; their colours are nearly right, `solve_colours` makes them so.

    Args:
        volume: (Z, rows, columns) normalised.
        steps: (3, 3) float64, mm RAS along z, rows, columns, one a row.
        origin: (3,) float64, centre of voxel (0, 0, 0).
        tolerance: RMS error, normalised, at which a block may be held by the coarser lattice.
        most: Gaussians allowed; the pitch grows until they suffice.
        depths: allowed pitches along z over the pitch in-plane, increasing: 2 where z lies across thick slices, up to
            two Gaussians a slice if need be; 1 where z is as sharp as the others.

    Returns:
        The parameters, and the finest pitch in voxels along z and in-plane.
    """
    # Resolution across slices goes first: there the volume holds less.
    for pitch, depth in itertools.product(range(1, 9), depths):
        kept = _levels(volume, pitch, depth, tolerance)
        if sum(int(mask.sum()) for mask in kept) <= most:
            break
    parts = []
    for level, mask in enumerate(kept):
        size = _block(pitch, depth, level)
        index = torch.nonzero(mask)
        places = (index + 0.5) * torch.tensor(size, dtype=torch.float64) - 0.5
        part = torch.empty(11, len(index))
        part[0:3] = (places @ steps + origin).T.float()
        sigma = WIDTH * torch.tensor(size, dtype=torch.float64) * steps.norm(dim=1)
        axes = steps / steps.norm(dim=1, keepdim=True)
        precision = (axes.T / sigma**2) @ axes
        part[3:9] = upper_factor(precision[None]).expand(6, len(index))
        part[9] = _separable_colours(volume, size)[mask]
        part[10] = 1.0
        parts.append(part)
    return torch.cat(parts, 1).contiguous(), (depth * pitch, pitch)


def lattice_error(parameters: torch.Tensor, planes: VolumePlanes, step: int = 32) -> float:
    """RMS difference of field and volume on every `step`-th sub-slice, normalised."""
    batch, target = planes.draw(0, range(step // 2 % planes.voxels.shape[0], planes.voxels.shape[0], step))
    image, _, _ = batch.render(parameters)
    return float((image - target).square().mean().sqrt())


def solve_colours(
    parameters: torch.Tensor, planes: VolumePlanes, iterations: int, planes_per_chunk: int = 64
) -> Iterator[float]:
    """Least-squares colours by preconditioned conjugate gradients, in place; yields the RMS error of the field each time.

    The image is linear in the colours. A Gaussian's column has a norm that grows with its volume, so its inverse
    volume is the preconditioner.
    """
    depth = planes.voxels.shape[0]
    chunks = [list(range(z, min(z + planes_per_chunk, depth))) for z in range(0, depth, planes_per_chunk)]
    drawn = [planes.draw(0, chunk) for chunk in chunks]
    precondition = (parameters[3] * parameters[6] * parameters[8]).clone()
    precondition /= precondition.mean()
    work = parameters.clone()

    def forward(colours: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        work[9] = colours
        return [batch.render(work) for batch, _ in drawn]

    def adjoint(
        residuals: list[torch.Tensor], rendered: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    ) -> torch.Tensor:
        total = torch.zeros_like(parameters[9])
        for (batch, _), residual, (_, samples, density) in zip(drawn, residuals, rendered, strict=True):
            total += batch.render_backward(residual, samples, density, parameters)[9]
        return total

    rendered = forward(parameters[9])
    residuals = [target - image for (_, target), (image, _, _) in zip(drawn, rendered, strict=True)]
    pixels = planes.voxels.numel()
    direction: torch.Tensor | None = None
    old = 1.0
    for _ in range(iterations):
        gradient = adjoint(residuals, rendered)
        scaled = precondition * gradient
        new = float(gradient @ scaled)
        direction = scaled if direction is None else scaled + (new / old) * direction
        old = new
        images = [image for image, _, _ in forward(direction)]
        square = sum(float(image @ image) for image in images)
        if square <= 0:
            return
        step = new / square
        parameters[9] += step * direction
        for residual, image in zip(residuals, images, strict=True):
            residual -= step * image
        yield (sum(float(residual @ residual) for residual in residuals) / pixels) ** 0.5


def _block(pitch: int, depth: int, level: int) -> tuple[int, int, int]:
    return depth * pitch << level, pitch << level, pitch << level


def _separable_colours(volume: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    """Least-squares colours of a whole lattice, whose basis is all but a product over the axes."""
    colours = volume
    for axis, (length, step) in enumerate(zip(volume.shape, size, strict=True)):
        centres = (torch.arange(-(-length // step)) + 0.5) * step - 0.5
        distance = (torch.arange(length)[:, None] - centres[None, :]) / (WIDTH * step)
        basis = torch.exp(-0.5 * distance.double() ** 2) * (distance.abs() < REACH)
        basis /= basis.sum(dim=1, keepdim=True)
        # A little damping: colours that hardly show in the image must not grow.
        normal = basis.T @ basis
        normal += 1e-4 * normal.diagonal().mean() * torch.eye(len(normal), dtype=torch.float64)
        solution = torch.linalg.solve(normal, basis.T).float()
        colours = torch.movedim(torch.tensordot(solution, colours, dims=([1], [axis])), 0, axis)
    return colours


def _padded(volume: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    """(1, 1, ...) with borders repeated until whole blocks fit."""
    missing = [-n % s for n, s in zip(volume.shape, size, strict=True)]
    return pad(volume[None, None], (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")


def _levels(volume: torch.Tensor, pitch: int, depth: int, tolerance: float) -> list[torch.Tensor]:
    """Which blocks of each level, finest first, get a Gaussian; every voxel is covered by exactly one block."""
    size = _block(pitch, depth, LEVELS - 1)
    whole = _padded(volume, size)
    # A block is needed at a level when the next coarser lattice misses the volume there or next to it.
    needed = []
    for level in range(LEVELS - 1):
        coarse = _block(pitch, depth, level + 1)
        fine = avg_pool3d(whole, _block(pitch, depth, level))
        held = interpolate(
            avg_pool3d(whole, coarse), size=fine.shape[2:], mode="trilinear", align_corners=False
        )
        error = avg_pool3d((fine - held) ** 2, 2)
        needed.append(max_pool3d(error, 3, 1, 1) > tolerance**2)
    masks = []
    covered = torch.zeros(
        (1, 1, *(n // s for n, s in zip(whole.shape[2:], size, strict=True))), dtype=torch.bool
    )
    for level in reversed(
        range(LEVELS)
    ):  # from coarse to fine: what a coarse block holds, finer ones need not
        if level == 0:
            mask = ~covered
        else:
            mask = ~covered & ~needed[level - 1]
            if level > 1:  # a coarse block must also be smooth at every finer level
                finer = max_pool3d(needed[level - 2].float(), 2)
                mask &= finer == 0
            covered = (covered | mask).repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
        masks.append(mask)
    shapes = [
        [-(-n // s) for n, s in zip(volume.shape, _block(pitch, depth, level), strict=True)]
        for level in range(LEVELS)
    ]
    masks.reverse()
    return [mask[0, 0, :a, :b, :c] for mask, (a, b, c) in zip(masks, shapes, strict=True)]
