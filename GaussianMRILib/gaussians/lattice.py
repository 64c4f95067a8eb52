"""A lattice of Gaussians of one shape, in bricks: one number a Gaussian, so that any clinical scan fits at full detail.

All Gaussians have a standard deviation of `WIDTH` pitches along the lattice's axes and the amplitude 1; what differs is the
colour. A point sees the 4 x 4 x 4 Gaussians around it through a product of three small tables, so nothing is sorted and
no ellipse is intersected. Bricks of 8 x 8 x 8 nodes exist only where something was scanned.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from .. import native
from ..errors import GaussianMRIError
from ..geometry import hull_corners
from ..interruption import checkpoint
from .planes import BACKGROUND, PlaneBatch, upper_factor

#: Nodes along the edge of a brick.
BRICK = 8
#: Standard deviation of a Gaussian in pitches of its lattice; at 0.6 normalised Gaussians all but interpolate.
WIDTH = 0.6
#: A Gaussian reaches so many pitches along each axis.
REACH = 2.0
#: Squared Mahalanobis distance of that reach: with it, plain Gaussians show what the lattice shows.
EXPLICIT_CUT = (REACH / WIDTH) ** 2
#: Sum of the weights at a point inside a lattice, all but the same everywhere: (width * sqrt(2 pi))^3.
FULL_DENSITY = (WIDTH * (2 * np.pi) ** 0.5) ** 3


@dataclass(frozen=True, eq=False)
class GaussianLattice:
    """Gaussians on the nodes of a lattice.

    Attributes:
        nodes: (B, 8, 8, 8) float32, colours [z][y][x] of the nodes of B bricks, normalised intensities.
        table: (bz, by, bx) int32 on the same device: the brick of each cell of 8 x 8 x 8 nodes, -1 where there is none.
        node_to_ras: (4, 4) float64, mm: from node coordinates (x, y, z) to RAS. Columns are the pitches, of any length and
            angle.
        step: nodes are whole multiples of it, as they are in files; 0 when they were not rounded yet.
    """

    nodes: torch.Tensor
    table: torch.Tensor
    node_to_ras: NDArray[np.float64]
    _: KW_ONLY
    step: float = 0.0

    def __post_init__(self) -> None:
        if self.nodes.ndim != 4 or tuple(self.nodes.shape[1:]) != (BRICK,) * 3 or self.table.ndim != 3:
            raise GaussianMRIError(
                f"A lattice's nodes must be (bricks, 8, 8, 8) and its table (z, y, x), got {tuple(self.nodes.shape)} "
                f"and {tuple(self.table.shape)}."
            )
        check_one_device("A lattice", self.nodes, self.table)

    @classmethod
    def covering(
        cls,
        hulls: Sequence[NDArray[np.float64]],
        axes: NDArray[np.float64],
        *,
        device: torch.device | str = "cpu",
    ) -> GaussianLattice:
        """An empty lattice (nodes 0) whose bricks are those that any hull can see.

        Args:
            hulls: half-spaces (M, 4), n . x + d <= 0, RAS mm, each bounded.
            axes: (3, 3), mm: columns are the pitches along x, y, z.
        """
        inverse = np.linalg.inv(axes)
        corners = np.concatenate([hull_corners(hull) for hull in hulls]) @ inverse.T
        first = np.floor(corners.min(axis=0) - REACH)
        count = np.maximum(np.ceil((corners.max(axis=0) + REACH - first) / BRICK), 1).astype(int)
        matrix = np.eye(4)
        matrix[:3, :3] = axes
        matrix[:3, 3] = axes @ first
        seen = np.zeros(tuple(count[::-1]), bool)
        for hull in hulls:
            seen |= _bricks_seen(hull, matrix, count)
        table = np.full(seen.shape, -1, np.int32)
        table[seen] = np.arange(int(seen.sum()), dtype=np.int32)
        nodes = torch.zeros(int(seen.sum()), BRICK, BRICK, BRICK, dtype=torch.float32)
        return cls(nodes.to(device), torch.from_numpy(table).to(device), matrix)

    @classmethod
    def of_box(
        cls, colours: torch.Tensor, node_to_ras: NDArray[np.float64], *, step: float = 0.0
    ) -> GaussianLattice:
        """The lattice of a whole box of nodes (z, y, x), whose sides are multiples of 8."""
        cells = [n // BRICK for n in colours.shape]
        if any(n % BRICK for n in colours.shape):
            raise GaussianMRIError(f"A box of whole bricks has sides of 8 n nodes, got {tuple(colours.shape)}.")
        split = colours.reshape(cells[0], BRICK, cells[1], BRICK, cells[2], BRICK)
        nodes = split.permute(0, 2, 4, 1, 3, 5).reshape(-1, BRICK, BRICK, BRICK).contiguous()
        table = torch.arange(len(nodes), dtype=torch.int32, device=colours.device).reshape(cells)
        return cls(nodes, table, np.array(node_to_ras, np.float64), step=step)

    def __len__(self) -> int:
        return int(self.nodes.numel())

    @functools.cached_property
    def ras_to_node(self) -> torch.Tensor:
        """(3, 4) float64 on the CPU: from RAS mm to node coordinates."""
        return torch.from_numpy(np.ascontiguousarray(np.linalg.inv(self.node_to_ras)[:3]))

    @property
    def pitch(self) -> NDArray[np.float64]:
        """(3,) mm along x, y, z."""
        lengths: NDArray[np.float64] = np.linalg.norm(self.node_to_ras[:3, :3], axis=0)
        return lengths

    # ---- images

    def render(self, batch: PlaneBatch, *, background: float = BACKGROUND) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and sums of weights, both (total,), of planes; see `native.lattice_render`."""
        return native.lattice_render(
            self.nodes, self.table, self.ras_to_node, batch.frames, batch.shapes, batch.offsets, batch.weights,
            background=background,
        )  # fmt: skip

    def adjoint(self, values: torch.Tensor, batch: PlaneBatch, *, background: float = BACKGROUND) -> torch.Tensor:
        """(B, 8, 8, 8): what `render` does, transposed, to one number a pixel (total,)."""
        return native.lattice_render_backward(
            values, self.table, self.ras_to_node, batch.frames, batch.shapes, batch.offsets, batch.weights,
            background, len(self.nodes),
        )  # fmt: skip

    # ---- nodes

    def with_nodes(self, nodes: torch.Tensor) -> GaussianLattice:
        """The same lattice with other colours, which are not rounded."""
        return replace(self, nodes=nodes, step=0.0)

    def corners(self) -> NDArray[np.int64]:
        """(B, 3) node coordinates (x, y, z) of each brick's first node, in the order of the bricks."""
        table = self.table.cpu().numpy()
        cells = np.argwhere(table >= 0)
        found = np.empty((len(self.nodes), 3), np.int64)
        found[table[tuple(cells.T)]] = cells[:, ::-1] * BRICK
        return found

    def points(self, *, bricks: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float64]:
        """(b, 8, 8, 8, 3) RAS mm of the nodes of some bricks."""
        z, y, x = np.meshgrid(*[np.arange(BRICK)] * 3, indexing="ij")
        local = np.stack([x, y, z], axis=-1) @ self.node_to_ras[:3, :3].T
        corners = self.corners()[bricks] @ self.node_to_ras[:3, :3].T + self.node_to_ras[:3, 3]
        return np.asarray(corners[:, None, None, None, :] + local)

    def at_nodes(self, other: GaussianLattice) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and sums of weights at the nodes of another lattice, both (B, 8, 8, 8) of the other one."""
        corners = other.corners().astype(np.float64) @ other.node_to_ras[:3, :3].T + other.node_to_ras[:3, 3]
        along = other.node_to_ras[:3, :3]
        normal = np.cross(along[:, 0], along[:, 1])  # of the planes of nodes; a sheared lattice's z is another
        origins = corners[:, None] + np.arange(BRICK)[:, None] * along[:, 2]
        steps = np.concatenate([along[:, 0], along[:, 1], normal / np.linalg.norm(normal)])
        steps = np.broadcast_to(steps, (*origins.shape[:2], 9))
        frames = torch.from_numpy(np.concatenate([origins, steps], -1).reshape(-1, 12).astype(np.float32))
        device, count = self.nodes.device, len(frames)
        thin = torch.zeros(count, 1, device=device, dtype=torch.float32)
        shapes = torch.full((count, 2), BRICK, dtype=torch.int32)
        image, weight = self.render(PlaneBatch(frames.to(device), shapes, thin, torch.ones_like(thin)))
        return image.reshape(other.nodes.shape), weight.reshape(other.nodes.shape)

    def bricks_in(self, hull: NDArray[np.float64]) -> torch.Tensor:
        """(B,) bool: the bricks that a convex hull can see."""
        cells = _bricks_seen(hull, self.node_to_ras, np.array(self.table.shape[::-1]))
        found = torch.zeros(len(self.nodes), dtype=torch.bool, device=self.nodes.device)
        numbers = self.table[torch.from_numpy(cells).to(self.table.device)]
        found[numbers[numbers >= 0].long()] = True
        return found

    def depth_inside(self, hull: NDArray[np.float64], *, most: float = np.inf) -> torch.Tensor:
        """(B, 8, 8, 8) float32: how far each node lies inside a hull, mm, but `most` at most; negative outside."""
        normals = hull[:, :3] @ self.node_to_ras[:3, :3]
        constants = hull[:, :3] @ self.node_to_ras[:3, 3] + hull[:, 3] + self.corners() @ normals.T
        depth = torch.full(tuple(self.nodes.shape), most, dtype=torch.float32)
        # A face matters only to the bricks that come nearer to it.
        nearest = -(constants + np.maximum(normals, 0).sum(axis=1) * (BRICK - 1))
        x = torch.arange(BRICK, dtype=torch.float32)
        for (a, b, c), d, near in zip(normals, constants.T, nearest.T < most, strict=True):
            checkpoint()
            some = torch.from_numpy(np.flatnonzero(near))
            local = c * x[:, None, None] + b * x[None, :, None] + a * x[None, None, :]
            away = torch.from_numpy(d[near]).float()[:, None, None, None] + local
            depth[some] = torch.minimum(depth[some], away.neg_())
        return depth.to(self.nodes.device)

    def part(self, bricks: torch.Tensor) -> GaussianLattice:
        """The lattice of some of its bricks, a mask (B,); the others are absent."""
        numbers = torch.full((len(self.nodes) + 1,), -1, dtype=torch.int32, device=self.table.device)
        numbers[:-1][bricks] = torch.arange(int(bricks.sum()), dtype=torch.int32, device=self.table.device)
        return replace(self, nodes=self.nodes[bricks], table=numbers[self.table.long()])

    def rounded(self, step: float) -> GaussianLattice:
        """Colours as files keep them: 16-bit multiples of `step`, or of a larger one where the colours need it."""
        largest = float(self.nodes.abs().max()) if len(self) else 0.0
        step = float(max(step, largest / 32767 * (1 + 1e-6)))
        return self._of_codes(torch.round(self.nodes / step).to(torch.int16), step)

    @property
    def codes(self) -> NDArray[np.int16]:
        """(B, 8, 8, 8): nodes / step."""
        if self.step <= 0:
            raise GaussianMRIError("This lattice's colours were not rounded; see `GaussianLattice.rounded`.")
        return np.asarray(torch.round(self.nodes / self.step).to(torch.int16).cpu().numpy())

    @classmethod
    def from_codes(
        cls,
        codes: NDArray[np.int16],
        table: NDArray[np.int32],
        node_to_ras: NDArray[np.float64],
        *,
        step: float,
        device: torch.device | str = "cpu",
    ) -> GaussianLattice:
        """The lattice of a file."""
        nodes = torch.zeros(0, BRICK, BRICK, BRICK, dtype=torch.float32, device=device)
        empty = cls(nodes, torch.from_numpy(table).to(device), node_to_ras)
        return empty._of_codes(torch.from_numpy(codes).to(device), step)

    def _of_codes(self, codes: torch.Tensor, step: float) -> GaussianLattice:
        return replace(self, nodes=codes.float().mul_(np.float32(step)), step=step)

    def explicit(self) -> torch.Tensor:
        """(11, N) parameters of plain Gaussians, to be cut at `EXPLICIT_CUT`."""
        axes = torch.from_numpy(self.node_to_ras[:3, :3] * WIDTH)
        inverse = torch.linalg.inv(axes)
        parameters = torch.empty(11, len(self), dtype=torch.float32)
        parameters[0:3] = torch.from_numpy(self.points().reshape(-1, 3).T).float()
        parameters[3:9] = upper_factor((inverse.T @ inverse)[None]).expand(6, len(self))
        parameters[9] = self.nodes.reshape(-1).cpu()
        parameters[10] = 1.0
        return parameters.to(self.nodes.device)

    def to(self, device: torch.device | str) -> GaussianLattice:
        """The same lattice on another device."""
        return replace(self, nodes=self.nodes.to(device), table=self.table.to(device))


def check_one_device(what: str, *tensors: torch.Tensor) -> None:
    """Raise a GaussianMRIError unless all tensors are on one device."""
    found = sorted({str(tensor.device) for tensor in tensors})
    if len(found) > 1:
        raise GaussianMRIError(f"{what} must be on one device, but parts of it are on {' and '.join(found)}; use `to`.")


def _bricks_seen(
    hull: NDArray[np.float64], node_to_ras: NDArray[np.float64], count: NDArray[np.int_]
) -> NDArray[np.bool_]:
    """(bz, by, bx): cells that a convex hull can see, those within reach of it; a few at its corners too many."""
    normals = hull[:, :3] @ node_to_ras[:3, :3]  # in node coordinates
    constants = hull[:, :3] @ node_to_ras[:3, 3] + hull[:, 3]
    seen = np.ones(tuple(count[::-1]), bool)
    half = (BRICK - 1) / 2 + REACH
    z, y, x = np.ogrid[tuple(slice(0, n) for n in count[::-1])]
    for (a, b, c), d in zip(normals, constants, strict=True):
        nearest = d - half * (abs(a) + abs(b) + abs(c)) + (BRICK - 1) / 2 * (a + b + c)
        seen &= BRICK * (a * x + b * y + c * z) + nearest <= 0
    return seen


__all__ = ["BRICK", "EXPLICIT_CUT", "FULL_DENSITY", "WIDTH", "GaussianLattice"]
