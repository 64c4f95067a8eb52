"""The brightness of each part, neighbourhood by neighbourhood: no end of a series may show as a step in the field.

A series ends somewhere inside the others, and its brightness there is not theirs: coils shade, saturation bands darken a
part of one series, and the first and last slices of a series are brighter in fluid, having one neighbour instead of two
that saturates them too. A gain that varies over tens of millimetres (`intensities.py`) does not meet that. As in
panoramas (multi-band blending: Burt and Adelson, "A multiresolution spline", ACM Trans. Graph. 2, 1983), what parts show
is joined over a distance in proportion to its size: details within a slice or so of a part's end, brightness over
centimetres.

Means over neighbourhoods, in which slices of all directions are equally blurred, give each part's level and, on the nodes
that two parts share, how much they differ. The common level is the mean of the parts' levels, each weighted by its
distance from its nearest end inside another, and the less the darker it is: what darkens one series takes its signal, as
saturation does. A part that is darker than the common level is lifted to it and has less say there, since its contrast is
weak; one that is brighter is scaled down. Near its end a part also has less say where it differs from two others within a
slice's thickness.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..gaussians import GaussianLattice
from ..gaussians.lattice import BRICK
from ..geometry import ImagePlane, transform_points
from ..interruption import checkpoint
from .lattice import smooth_at_nodes

#: Standard deviation, mm, of the neighbourhoods in which levels are compared, and of those of a slice's thickness.
WIDE_MM, NARROW_MM = 8.0, 3.0
#: A part's level counts fully so far from its ends inside others, and its say is full so far from them.
FADE_MM, END_MM = 25.0, 8.0
#: Difference in a narrow neighbourhood, normalised, that halves a part's say at its end.
GROSS = 0.06
#: A level is as good as another within this factor, and an intensity of so much is added to both.
SAME, FLOOR = 1.25, 0.1
#: A part counts as brighter than others from this share of `FADE_MM` on from its ends.
BRIGHT = 0.25
#: Least gain and trust.
LEAST = 0.05
#: Largest edge of a cell of the maps, mm, and shares of a part's nodes and of a cell that count as seen.
CELL_MM, SEEN = 3.0, 0.02
#: Changes of less are none, normalised.
UNCHANGED = 1e-3
BRICKS_AT_ONCE = 1000

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Level:
    """What becomes of a part's intensities v, already in the shared scale: gain(x) * v + base(x).

    Attributes:
        maps: (3, z, y, x) float32 of gain, base, and trust, by which its say is multiplied.
        ras_to_map: (4, 4) from RAS mm to (x, y, z) of the maps; beyond them the nearest values hold.
    """

    maps: torch.Tensor
    ras_to_map: NDArray[np.float64]

    def on_planes(self, planes: Sequence[ImagePlane]) -> torch.Tensor:
        """(3, total) of gain, base, and trust at pixels."""
        return torch.cat([self.at(plane.points()) for plane in planes], dim=1)

    def at_nodes(self, lattice: GaussianLattice) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Numbers (b,) of some of the bricks that it changes, and (3, b, 8, 8, 8) of gain, base, and trust there."""
        to_map = self.ras_to_map @ lattice.node_to_ras
        edges = (BRICK - 1) * np.abs(to_map[:3, :3]).sum(axis=1)
        corners = lattice.corners()
        changed = np.flatnonzero(self._changes(transform_points(to_map, corners + (BRICK - 1) / 2), edges))
        # The maps are smoother than their cells, so that one place for each is enough.
        count = int(np.clip(np.ceil(edges.max()) + 1, 2, BRICK))
        for first in range(0, len(changed), BRICKS_AT_ONCE):
            some = changed[first : first + BRICKS_AT_ONCE]
            yield torch.from_numpy(some).to(lattice.nodes.device), smooth_at_nodes(lattice, corners[some], self.at, count)

    def _changes(self, middles: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(B,): whether it changes anything in boxes with these middles and edges (x, y, z), map coordinates."""
        from scipy.ndimage import maximum_filter

        change = (self.maps - torch.tensor([1.0, 0, 1], dtype=torch.float32).reshape(3, 1, 1, 1)).abs().amax(0).numpy()
        near = maximum_filter(change, [int(np.ceil(edge)) + 3 for edge in edges[::-1]], mode="nearest") > UNCHANGED
        index = np.clip(np.round(middles[:, ::-1]).astype(int), 0, np.array(near.shape) - 1)
        return np.asarray(near[tuple(index.T)])

    def at(self, points: NDArray[np.float64]) -> torch.Tensor:
        """(3, N) of gain, base, and trust at RAS points (..., 3), mm."""
        checkpoint()
        places = transform_points(self.ras_to_map, points)
        size = np.maximum(np.array(self.maps.shape[:0:-1]) - 1, 1)
        grid = torch.from_numpy((2 * places / size - 1).astype(np.float32).reshape(1, 1, 1, -1, 3))
        found = torch.nn.functional.grid_sample(self.maps[None], grid, align_corners=True, padding_mode="border")
        return found.reshape(3, -1)


def find_levels(
    lattice: GaussianLattice, values: Sequence[torch.Tensor], says: Sequence[torch.Tensor]
) -> list[Level]:
    """The level of each part.

    Args:
        lattice: of whose nodes the following speak.
        values, says: one (B, 8, 8, 8) a part: what it shows in the shared scale, and its say, 0 to 1.
    """
    cells = _Cells.of(lattice)
    means = _means(cells, values, says)
    count = len(values)
    present = [means.say[n] > SEEN for n in range(count)]
    level = [cells.smooth(means.shown[n], means.say[n], WIDE_MM) for n in range(count)]
    away = [_away(present, n, cells) for n in range(count)]
    depth = [np.clip(mm / FADE_MM, SEEN, 1) for mm in away]
    differ, narrow = {}, {}
    for (n, k), (top, bottom) in means.pairs.items():
        differ[n, k] = cells.smooth(top, bottom, WIDE_MM)
        narrow[n, k] = narrow[k, n] = _gross(cells.smooth(top, bottom, NARROW_MM))
        differ[k, n] = -differ[n, k]
    weight = [depth[n] * present[n] for n in range(count)]
    for n, k in differ:
        darker = 1 - (level[n] + FLOOR) / np.maximum(level[n] + differ[n, k] + FLOOR, 1e-3)
        weight[n] *= 1 - np.clip(darker, 0, 1) * np.minimum(depth[k] / BRIGHT, 1) * present[k]
    total = np.maximum(sum(weight), 1e-6)
    found = []
    for n in range(count):
        others = [k for k in range(count) if k != n]
        more = sum(weight[k] / total * differ[n, k] for k in others)
        own, common = np.maximum(level[n] + FLOOR, 1e-3), np.maximum(level[n] + more + FLOOR, 1e-3)
        gain = np.clip(SAME * common / own, LEAST, 1)
        trust = np.clip(SAME * own / common, LEAST, 1) ** 2
        # Of two parts that differ nobody knows which is wrong; one that differs from two others is.
        alone = np.min([np.where(present[k], narrow[n, k], 1) for k in others], axis=0)
        alone *= np.sum([present[k] for k in others], axis=0) > 1
        trust *= 1 - alone * np.clip(1 - away[n] / END_MM, 0, 1)
        maps = np.stack([gain, (1 - gain) * level[n] + more, trust])
        found.append(Level(torch.from_numpy(_continued(maps, present[n]).astype(np.float32)), cells.ras_to_map))
    return found


@dataclass(frozen=True, eq=False)
class _Cells:
    """Cubes of some nodes as the voxels of dense maps (z, y, x).

    Attributes:
        nodes: along the edge of a cell.
        table: of the lattice, on the CPU.
        size: (3,) mm, z, y, x.
        ras_to_map: see `Level`.
    """

    nodes: int
    table: NDArray[np.int32]
    size: NDArray[np.float64]
    ras_to_map: NDArray[np.float64]

    @classmethod
    def of(cls, lattice: GaussianLattice) -> _Cells:
        pitch = float(lattice.pitch.max())
        nodes = next((n for n in (8, 4, 2) if n * pitch <= CELL_MM), 1)
        to_nodes = np.diag([nodes, nodes, nodes, 1.0])
        to_nodes[:3, 3] = (nodes - 1) / 2
        return cls(
            nodes,
            lattice.table.cpu().numpy(),
            nodes * lattice.pitch[::-1],
            np.asarray(np.linalg.inv(lattice.node_to_ras @ to_nodes), np.float64),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(n * BRICK // self.nodes for n in self.table.shape)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """(b, c, c, c) means over the cells of bricks (b, 8, 8, 8)."""
        return torch.nn.functional.avg_pool3d(values[:, None], self.nodes)[:, 0]

    def dense(self, bricks: torch.Tensor) -> Map:
        """A map from (B, c, c, c) cells; 0 where there is no brick."""
        c = BRICK // self.nodes
        there = self.table >= 0
        found = np.zeros((*self.table.shape, c, c, c), np.float32)
        found[there] = bricks.cpu().numpy()[self.table[there]]
        return np.ascontiguousarray(found.transpose(0, 3, 1, 4, 2, 5)).reshape(self.shape)

    def smooth(self, top: Map, bottom: Map, sigma_mm: float) -> Map:
        """The mean of top / bottom over Gaussian neighbourhoods, weighted by bottom; 0 where that is 0."""
        from scipy.ndimage import gaussian_filter

        checkpoint()
        a, b = (gaussian_filter(m, sigma_mm / self.size, mode="constant", truncate=2.5) for m in (top, bottom))
        return np.asarray(np.where(b > 1e-4, a / np.maximum(b, 1e-4), 0), np.float32)


@dataclass(frozen=True, eq=False)
class _Means:
    """Means over cells: of each part's say and say * value; of pairs, lesser say * (second - first) and lesser say."""

    say: list[Map]
    shown: list[Map]
    pairs: dict[tuple[int, int], tuple[Map, Map]]


def _means(cells: _Cells, values: Sequence[torch.Tensor], says: Sequence[torch.Tensor]) -> _Means:
    count, bricks = len(values), len(values[0])
    c = BRICK // cells.nodes
    pairs = [(n, k) for n in range(count) for k in range(n)]
    empty = torch.zeros(2 * count + 2 * len(pairs), bricks, c, c, c, dtype=torch.float32)
    for first in range(0, bricks, BRICKS_AT_ONCE):
        some = slice(first, first + BRICKS_AT_ONCE)
        shown, say = [v[some] for v in values], [s[some].float() for s in says]
        for n in range(count):
            empty[2 * n, some] = cells.mean(say[n]).cpu()
            empty[2 * n + 1, some] = cells.mean(say[n] * shown[n]).cpu()
        for number, (n, k) in enumerate(pairs, start=count):
            both = torch.minimum(say[n], say[k])
            empty[2 * number, some] = cells.mean(both * (shown[k] - shown[n])).cpu()
            empty[2 * number + 1, some] = cells.mean(both).cpu()
    maps = [cells.dense(bricks) for bricks in empty]
    return _Means(
        maps[0 : 2 * count : 2],
        maps[1 : 2 * count : 2],
        {pair: (maps[2 * m], maps[2 * m + 1]) for m, pair in enumerate(pairs, start=count)},
    )


def _away(present: Sequence[NDArray[np.bool_]], number: int, cells: _Cells) -> Map:
    """How far cells are from where one part ends and another goes on, mm."""
    from scipy.ndimage import distance_transform_edt

    beyond = np.any([p for n, p in enumerate(present) if n != number], axis=0) & ~present[number]
    if not beyond.any():
        return np.full(cells.shape, np.inf, np.float32)
    return np.asarray(distance_transform_edt(~beyond, sampling=cells.size), np.float32)


def _gross(difference: Map) -> Map:
    """0 for no difference, 1/2 at `GROSS`, 1 for large ones."""
    square = (difference / GROSS) ** 2
    return np.asarray(square / (1 + square), np.float32)


def _continued(maps: NDArray[np.floating], present: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Maps whose cells beyond what is present have the nearest values."""
    from scipy.ndimage import distance_transform_edt

    if not present.any():
        return maps
    nearest = distance_transform_edt(~present, return_distances=False, return_indices=True)
    z, y, x = nearest
    return np.asarray(maps[:, z, y, x])
