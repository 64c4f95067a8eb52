"""How the intensities of one acquisition relate to another's: a gain that varies slowly over the body, and an offset.

Each series has its own coils, scaling and shading. Where two of them show the same body,

    reference = gain * f(x) * (own + c) + offset

with a factor f that is trilinear between knots `KNOTS_MM` apart, smooth, and constant beyond what both show. It is found
from means over the lattice's bricks, in which slices of either direction are about equally blurred: least squares for f with
c fixed and for c and the offset with f fixed, in turn. A regression's slope is diluted by noise and blur, so gain and offset
come from the ratio of spreads and the means at last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..gaussians import GaussianLattice
from ..gaussians.lattice import BRICK
from ..geometry import ImagePlane, transform_points, trilinear
from .lattice import smooth_at_nodes

#: Distance between knots: coils shade more smoothly, and finer fields would follow the anatomy.
KNOTS_MM = 40.0
#: Weights of steps between neighbouring knots and of being different from one number, in shares of a knot's mean weight.
SMOOTHNESS, FLATNESS = 0.3, 1e-3
ROUNDS = 4
#: Bricks that both have to show, each with a share of its nodes.
FEWEST_BRICKS, SMALLEST_SHARE = 200, 0.125
#: Nodes that both have to show for a scale at all.
FEWEST_NODES = 1000
#: No knot differs from the one number that fits best by more than this factor.
LARGEST = 3.0
#: Pixels between the places on a plane at which the factor is computed.
STRIDE = 8


@dataclass(frozen=True, eq=False)
class Scale:
    """From an acquisition's normalised intensities to those that all share; see above.

    Attributes:
        gain, offset: of the whole acquisition.
        knots: (z, y, x) float32 of f, with the mean 1; None: it is 1 everywhere, and c is 0.
        first: (3,) RAS mm of knot (0, 0, 0); the knots' x, y, z are R, A, S.
        own_offset: c.
    """

    gain: float = 1.0
    offset: float = 0.0
    knots: torch.Tensor | None = None
    first: NDArray[np.float64] | None = None
    own_offset: float = 0.0

    @property
    def range(self) -> list[float]:
        """Least and largest f."""
        return [1.0, 1.0] if self.knots is None else [round(float(v), 3) for v in self.knots.aminmax()]

    def of_planes(self, values: torch.Tensor, planes: Sequence[ImagePlane]) -> torch.Tensor:
        """(total,) pixels of planes in the shared scale."""
        return (values + self.own_offset).mul_(self._on(planes).to(values.device)).mul_(self.gain).add_(self.offset)

    def back_on_planes(self, values: torch.Tensor, planes: Sequence[ImagePlane]) -> torch.Tensor:
        """The inverse of `of_planes`."""
        factor = self._on(planes).to(values.device)
        return (values - self.offset).div_(self.gain).div_(factor).sub_(self.own_offset)

    def of_nodes(self, values: torch.Tensor, lattice: GaussianLattice) -> torch.Tensor:
        """(B, 8, 8, 8) values at a lattice's nodes in the shared scale."""
        return (values + self.own_offset).mul_(self._at_nodes(lattice)).mul_(self.gain).add_(self.offset)

    def factor(self, points: NDArray[np.float64]) -> torch.Tensor:
        """f at RAS points (N, 3), mm: (N,)."""
        if self.knots is None or self.first is None:
            return torch.ones(len(points), dtype=torch.float32)
        index, weight = _around(points, self.first, tuple(self.knots.shape))
        return (self.knots.reshape(-1)[torch.from_numpy(index)] * torch.from_numpy(weight)).sum(1).float()

    def _on(self, planes: Sequence[ImagePlane]) -> torch.Tensor:
        """f at the pixels of planes, (total,) on the CPU; computed on a few of them and interpolated."""
        if self.knots is None:
            return torch.ones((), dtype=torch.float32)
        found = []
        for plane in planes:
            rows, columns = plane.shape
            few = [max(2, -(-n // STRIDE)) for n in (rows, columns)]
            j, i = (np.linspace(0, n - 1, count) for n, count in zip((rows, columns), few, strict=True))
            index = np.stack([*np.meshgrid(i, j), np.zeros((few[0], few[1])), np.ones((few[0], few[1]))], axis=-1)
            coarse = self.factor((index @ plane.ijk_to_ras.T)[..., :3].reshape(-1, 3)).reshape(1, 1, *few)
            fine = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear", align_corners=True)
            found.append(fine.reshape(-1))
        return torch.cat(found)

    def _at_nodes(self, lattice: GaussianLattice) -> torch.Tensor:
        """f at a lattice's nodes, (B, 8, 8, 8); computed at the bricks' corners and interpolated."""
        if self.knots is None:
            return torch.ones((), device=lattice.nodes.device, dtype=torch.float32)
        return smooth_at_nodes(lattice, lattice.corners(), lambda points: self.factor(points)[None], 2)[0]


def find_scale(
    own: torch.Tensor,
    reference: torch.Tensor,
    both: torch.Tensor,
    lattice: GaussianLattice,
    shading: bool,
) -> Scale | None:
    """The scale of one acquisition by another's; None where they show too little together.

    Args:
        own, reference: (B, 8, 8, 8) normalised values at a lattice's nodes.
        both: (B, 8, 8, 8) bool, where both show something.
        shading: whether the gain may vary.
    """
    if int(both.sum()) < FEWEST_NODES:
        return None
    scale = (_shading(own, reference, both, lattice) if shading else None) or Scale()
    seen = both.reshape(len(both), -1).any(1)
    inner = lattice.part(seen)
    shaded = scale.of_nodes(own[seen], inner)[both[seen]].double()
    target = reference[both].double()
    spread = float(shaded.std())
    if spread <= 0:
        return None
    gain = float(target.std()) / spread
    return replace(scale, gain=gain, offset=float(target.mean() - gain * shaded.mean()))


def _shading(
    own: torch.Tensor, reference: torch.Tensor, both: torch.Tensor, lattice: GaussianLattice
) -> Scale | None:
    """f and c; None where both show too few bricks."""
    weight = both.reshape(len(both), -1).float()
    share = weight.mean(1)
    used = share > SMALLEST_SHARE
    if int(used.sum()) < FEWEST_BRICKS:
        return None

    def mean(values: torch.Tensor) -> NDArray[np.float64]:
        flat = values.reshape(len(values), -1)[used]
        return ((flat * weight[used]).sum(1) / weight[used].sum(1)).double().cpu().numpy()

    middle = (BRICK - 1) / 2
    chosen = used.cpu().numpy()
    points = transform_points(lattice.node_to_ras, lattice.corners()[chosen] + middle)
    return _fitted(mean(own), mean(reference), share[used].double().cpu().numpy(), points)


def _fitted(
    own: NDArray[np.float64],
    reference: NDArray[np.float64],
    weight: NDArray[np.float64],
    points: NDArray[np.float64],
) -> Scale:
    """f and c from (N,) values and weights at (N, 3) RAS points, mm."""
    from scipy.sparse import csr_matrix

    low, high = points.min(axis=0), points.max(axis=0)
    count = np.ceil((high - low) / KNOTS_MM).astype(int) + 1
    first = (low + high) / 2 - (count - 1) * KNOTS_MM / 2
    shape = (int(count[2]), int(count[1]), int(count[0]))
    index, share = _around(points, first, shape)
    total = int(np.prod(shape))
    rows = np.repeat(np.arange(len(own)), 8)
    matrix = csr_matrix((share.reshape(-1).astype(float), (rows, index.reshape(-1))), (len(own), total))
    stiffness = SMOOTHNESS * _steps_squared(shape) + FLATNESS * np.eye(total)
    c, offset = 0.0, 0.0
    for _ in range(ROUNDS):
        seen = matrix.multiply((own + c)[:, None]).tocsr()
        one = float(weight @ ((own + c) * (reference - offset)) / (weight @ (own + c) ** 2))
        normal = (seen.T @ seen.multiply(weight[:, None])).toarray()
        normal += np.trace(normal) / total * stiffness
        rest = reference - offset - one * (own + c)
        knots = np.clip(one + np.linalg.solve(normal, seen.T @ (weight * rest)), abs(one) / LARGEST, abs(one) * LARGEST)
        field = matrix @ knots
        features = np.stack([field, np.ones(len(own))], axis=1)
        gram = features.T @ (features * weight[:, None])
        gram[0, 0] *= 1 + 1e-3  # where f hardly varies, only the sum of the two is known
        c, offset = (float(v) for v in np.linalg.solve(gram, features.T @ (weight * (reference - field * own))))
    mean = torch.from_numpy((knots / knots.mean()).astype(np.float32).reshape(shape))
    return Scale(knots=mean, first=first, own_offset=c)


def _around(
    points: NDArray[np.float64], first: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Numbers and trilinear weights, both (N, 8), of the knots around points; beyond the knots the nearest ones'."""
    index, weight = trilinear(((points - first) / KNOTS_MM)[:, ::-1], shape)
    return index.T, weight.T.astype(np.float32)


def _steps_squared(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """(knots, knots): x^T M x is the sum over neighbouring knots of their squared differences."""
    number = np.arange(int(np.prod(shape))).reshape(shape)
    found = np.zeros((number.size, number.size))
    for axis in range(3):
        a, b = np.delete(number, -1, axis).ravel(), np.delete(number, 0, axis).ravel()
        found[a, a] += 1
        found[b, b] += 1
        found[a, b] -= 1
        found[b, a] -= 1
    return found
