"""The lattice's operators in plain torch: the oracle of the tests, and the last resort without a compiled library.

They follow the definition sample by sample in the dtype of their values; positions are float64 throughout. Chunks of
samples bound the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .arguments import SIDE, LatticePlanes

SIGMA = 0.6  # pitches
_TAPS = 4
_CHUNK = 1 << 15  # samples at once, 64 nodes each


def _samples(planes: LatticePlanes) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """(plane, sample, pixel indices in the concatenated image (n,), lattice coordinates (n, 3) float64)."""
    frames = planes.frames
    matrix = planes.ras_to_node.to(frames.device)
    first = 0
    for plane, (rows, columns) in enumerate(planes.shapes.tolist()):
        origin, column_step, row_step, normal = frames[plane].double().reshape(4, 3)
        start = matrix[:, :3] @ origin + matrix[:, 3]
        for pixels in torch.arange(rows * columns, device=frames.device).split(_CHUNK):
            row, column = pixels.div(max(columns, 1), rounding_mode="floor"), pixels % max(columns, 1)
            across = column.double()[:, None] * (matrix[:, :3] @ column_step)
            points = start + across + row.double()[:, None] * (matrix[:, :3] @ row_step)
            for sample, offset in enumerate(planes.offsets[plane].double()):
                yield plane, sample, first + pixels, points + offset * (matrix[:, :3] @ normal)
        first += rows * columns


def _taps(points: Tensor, table: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Of n points the numbers of their 64 nodes (n, 64) among all bricks' nodes, the weights (n, 64), which are 0 where
    there is no node, and whether there is one (n, 64)."""
    size = torch.tensor(table.shape[::-1], device=points.device) * SIDE
    # Far away points have no taps wherever they are put outside; integers overflow.
    points = torch.minimum(points.clamp(min=-8.0), size + 8.0)
    tap = (points.floor().long() - 1)[:, :, None] + torch.arange(_TAPS, device=points.device)  # (n, 3, 4)
    weight = torch.exp((points[:, :, None] - tap) ** 2 / (-2 * SIGMA**2)).to(dtype)
    inside = (tap >= 0) & (tap < size[:, None])
    tap = torch.where(inside, tap, 0)

    def outer(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, y, z = values.unbind(dim=1)
        return z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]

    z, y, x = outer(tap)
    brick = table.long()[z // SIDE, y // SIDE, x // SIDE]
    node = ((brick * SIDE + z % SIDE) * SIDE + y % SIDE) * SIDE + x % SIDE
    there = (brick >= 0) & (outer(inside)[0] & outer(inside)[1] & outer(inside)[2])
    wz, wy, wx = outer(weight)
    total = torch.where(there, wz * wy * wx, 0)
    return torch.where(there, node, 0).flatten(1), total.flatten(1), there.flatten(1)


def _inverse(weight: Tensor, background: float) -> Tensor:
    """1 / (sum w + background), 0 where that is 0."""
    total = weight + background
    return torch.where(total > 0, 1 / torch.where(total > 0, total, 1), 0)


def lattice_render(nodes: Tensor, planes: LatticePlanes) -> tuple[Tensor, Tensor]:
    """Image and density (total); see `GaussianMRILib.native.lattice_render`. Differentiable by autograd by `nodes`."""
    image, density = nodes.new_zeros(planes.total), nodes.new_zeros(planes.total)
    if nodes.shape[0] == 0 or planes.table.numel() == 0:
        return image, density
    values = nodes.reshape(-1)
    for plane, sample, pixels, points in _samples(planes):
        node, weight, there = _taps(points, planes.table, nodes.dtype)
        part = planes.weights[plane, sample].to(nodes.dtype)
        mass = weight.sum(dim=1)
        value = (weight * torch.where(there, values[node], 0)).sum(dim=1) * _inverse(mass, planes.background)
        image = image.index_add(0, pixels, part * value)
        density = density.index_add(0, pixels, (part * mass).detach())
    return image, density


def lattice_render_backward(grad_image: Tensor, planes: LatticePlanes, brick_count: int) -> Tensor:
    """Gradient (B, 8, 8, 8) of sum(grad_image * image) by the nodes."""
    gradient = grad_image.new_zeros(brick_count * SIDE**3)
    if brick_count and planes.table.numel():
        for plane, sample, pixels, points in _samples(planes):
            node, weight, there = _taps(points, planes.table, grad_image.dtype)
            scale = (
                grad_image[pixels]
                * planes.weights[plane, sample].to(weight.dtype)
                * _inverse(weight.sum(dim=1), planes.background)
            )
            gradient.index_add_(0, node[there], (weight * scale[:, None])[there])
    return gradient.reshape(brick_count, SIDE, SIDE, SIDE)


def _dense(nodes: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Values of the whole lattice (z, y, x), 0 where there is no node, and whether there is one."""
    named = table >= 0
    blocks = nodes.new_zeros(*table.shape, SIDE, SIDE, SIDE)
    blocks[named] = nodes[table[named].long()]
    there = named[..., None, None, None].expand(blocks.shape)
    shape = [SIDE * n for n in table.shape]
    return tuple(x.permute(0, 3, 1, 4, 2, 5).reshape(shape) for x in (blocks, there))  # type: ignore[return-value]


def lattice_smooth(
    nodes: Tensor, reference: Tensor, table: Tensor, scales: Sequence[float], edge: float
) -> Tensor:
    """The smoothness prior's gradient (B, 8, 8, 8); see `GaussianMRILib.native.lattice_smooth`."""
    values, there = _dense(nodes, table)
    guide = _dense(reference, table)[0]
    out = torch.zeros_like(values)
    for axis, scale in zip((2, 1, 0), scales, strict=True):
        size = values.shape[axis]
        if size == 0:
            continue
        low, high = (
            lambda x, axis=axis, size=size: x.narrow(axis, 0, size - 1),
            lambda x, axis=axis, size=size: x.narrow(axis, 1, size - 1),
        )
        pull = scale**2 * (low(values) - high(values))
        if edge > 0:
            pull = pull * (edge / ((scale * (low(guide) - high(guide))) ** 2 + edge**2).sqrt())
        pull = torch.where(low(there) & high(there), pull, 0)
        low(out).add_(pull)
        high(out).sub_(pull)
    result = torch.zeros_like(nodes)
    z, y, x = table.shape
    blocks = out.reshape(z, SIDE, y, SIDE, x, SIDE).permute(0, 2, 4, 1, 3, 5)
    result[table[table >= 0].long()] = blocks[table >= 0]
    return result
