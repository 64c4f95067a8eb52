"""How fast the lattice's kernels are: a thin oblique plane, a volume of planes, their adjoints, and smoothness.

    python -m Testing.Benchmarks.lattice [--quick] [--json PATH]

The lattice is filled, 256^3 nodes (--quick: 96^3) at 1 mm, pixels of 1 mm; the volume is a stack of oblique planes with
one sample each. Beside it scipy's map_coordinates, cubic without prefilter, at the same points of one plane, which
also reads 4 x 4 x 4 values a point; and the same plane through `field.render`, NaN outside the scan included. Times are
the least of several runs of the clock, which take turns.

What could be had at best, on two cores of 2.6 GHz with three loads of 16 bytes a cycle: a sample reads 16 rows of four
nodes, each from two aligned quads, so 32 loads = 11 cycles; its 84 multiplications and additions (64 along z, 16 along
y, 4 along x) and the weights' hundred or so fit beside them. A plane of 224 x 224: 50 k samples, 0.1 ms; it touches
about 1 MB of nodes, which stay in the caches from run to run. 256^3 samples: 35 ms, and 67 MB of nodes and 134 MB of
images, 20 ms at 10 GB/s. The adjoint writes as much as it reads: 32 stores at one or two a cycle, twice that time, and
samples near a block's border are visited more than once. A call's own costs are the table (0.1 ms for 256^3 nodes), and
for the adjoint the dense gradient, 67 MB to be cleared, which is nearly all of the time where it is one plane's.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from GaussianMRILib import native
from GaussianMRILib.gaussians import GaussianField, GaussianLattice
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.native.support.backend import kernels
from Testing.Benchmarks.kernels import least

from .stored import RESULTS, store

Scene = tuple[torch.Tensor, ...]


def lattice(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and table of a filled lattice of side^3 nodes; bricks in the order of the table."""
    cells = side // 8
    nodes = torch.rand(cells**3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    return nodes, torch.arange(cells**3, dtype=torch.int32).reshape(cells, cells, cells)


def planes(side: int, rows: int, count: int) -> Scene:
    """`count` parallel planes of rows^2 pixels, 20 and 15 degrees from axial, about the lattice's middle (frames, shapes,
    offsets, weights)."""
    a, b = math.radians(20), math.radians(15)
    normal = np.array([math.sin(a) * math.cos(b), math.sin(b), math.cos(a) * math.cos(b)])
    u = np.cross([0.0, 1.0, 0.0], normal)
    u /= np.linalg.norm(u)
    v = np.cross(normal, u)
    middle = np.full(3, side / 2 - 0.7)
    frames = [
        [*(middle + (k - (count - 1) / 2) * normal - (rows - 1) / 2 * (u + v)), *u, *v, *normal]
        for k in range(count)
    ]
    shapes = torch.full((count, 2), rows, dtype=torch.int32)
    return torch.tensor(frames, dtype=torch.float32), shapes, torch.zeros(count, 1), torch.ones(count, 1)


def points(frames: torch.Tensor, rows: int) -> np.ndarray:
    """Coordinates z, y, x (3, rows, rows) of the first plane's pixels."""
    origin, u, v, _ = frames[0].double().numpy().reshape(4, 3)
    row, column = np.mgrid[:rows, :rows]
    return (origin[:, None, None] + u[:, None, None] * column + v[:, None, None] * row)[::-1]


def field(nodes: torch.Tensor, table: torch.Tensor) -> GaussianField:
    """The lattice as a field whose scan is a box in it."""
    side = 8.0 * len(table)
    hull = np.c_[np.r_[np.eye(3), -np.eye(3)], np.r_[np.full(3, 8.0 - side), np.full(3, 8.0)]]
    lattice = GaussianLattice(nodes, table, np.eye(4))
    shapes = np.array([[8, 8]], np.int32)
    return GaussianField(torch.zeros(11, 0), 0.0, 1000.0, (hull,), np.eye(4)[None], shapes, lattice=lattice)


def image_plane(frames: torch.Tensor, rows: int) -> ImagePlane:
    """The first plane."""
    matrix = np.eye(4)
    matrix[:3] = frames[0].double().numpy().reshape(4, 3)[[1, 2, 3, 0]].T
    return ImagePlane(matrix, (rows, rows))


def measure(quick: bool) -> list[dict[str, Any]]:
    """A row for each instruction set: milliseconds and their ratios."""
    library = kernels()
    assert library is not None
    side, rows, seconds = (96, 96, 0.3) if quick else (256, 224, 3.0)
    nodes, table = lattice(side)
    cells = side // 8
    dense = nodes.reshape(cells, cells, cells, 8, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(side, side, side).numpy()
    to_node = torch.eye(3, 4, dtype=torch.float64)
    one, many = planes(side, rows, 1), planes(side, side, side)
    spline = partial(ndimage.map_coordinates, dense, points(one[0], rows), order=3, prefilter=False)
    whole_render = partial(field(nodes, table).render, image_plane(one[0], rows))
    results = []
    for simd in dict.fromkeys(["avx2", library.simd]):
        if not library.set_simd(simd):
            continue
        forward = [partial(native.lattice_render, nodes, table, to_node, *scene) for scene in (one, many)]
        backward = [
            partial(
                native.lattice_render_backward, torch.ones(int(shapes.prod(dim=1).sum())), table, to_node,
                frames, shapes, offsets, weights, 1e-4, len(nodes),
            )
            for frames, shapes, offsets, weights in (one, many)
        ]  # fmt: skip
        smooth = partial(native.lattice_smooth, nodes, nodes, table, (1, 1, 1), 0.1)
        plane, cubic, rendered = least([forward[0], spline, whole_render], time.perf_counter, seconds)
        whole, adjoint, plane_adjoint, pulls = least(
            [forward[1], backward[1], backward[0], smooth], time.perf_counter, seconds
        )
        results.append(
            {
                "simd": simd,
                "threads": torch.get_num_threads(),
                "side": side,
                "plane_ms": plane * 1e3,
                "scipy_ms": cubic * 1e3,
                "plane_to_scipy": plane / cubic,
                "render_ms": rendered * 1e3,
                "render_to_scipy": rendered / cubic,
                "plane_adjoint_ms": plane_adjoint * 1e3,
                "volume_ms": whole * 1e3,
                "volume_adjoint_ms": adjoint * 1e3,
                "adjoint_to_forward": adjoint / whole,
                "smooth_ms": pulls * 1e3,
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a lattice of 96^3")
    parser.add_argument("--json", type=Path, default=RESULTS / "lattice.json", help="file for the figures")
    options = parser.parse_args()
    results = measure(options.quick)
    for row in results:
        print(
            f"{row['simd']:7} {row['threads']} threads, {row['side']}^3: plane {row['plane_ms']:.2f} ms, scipy "
            f"{row['scipy_ms']:.1f} ms (ratio {row['plane_to_scipy']:.3f}), field.render {row['render_ms']:.2f} ms (ratio "
            f"{row['render_to_scipy']:.3f}), its adjoint "
            f"{row['plane_adjoint_ms']:.1f} ms; volume {row['volume_ms']:.0f} ms, its adjoint "
            f"{row['volume_adjoint_ms']:.0f} ms ({row['adjoint_to_forward']:.2f} x); smooth "
            f"{row['smooth_ms']:.0f} ms"
        )
    store(options.json, results)


if __name__ == "__main__":
    main()
