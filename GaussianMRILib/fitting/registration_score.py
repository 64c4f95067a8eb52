"""Local NCC of blocks under rigid motions: its value, its slope, its noise, and the motion that makes it largest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..interruption import checkpoint
from .registration_views import POINTS_NEEDED, View

#: A turn is measured as the shift that it causes this far away, mm, so that all six numbers are millimetres.
RADIUS = 50.0
ITERATIONS, SMALLEST_STEP_MM = 15, 0.02
#: Edge of the cells whose windows are taken to err together, in widths of a window.
CELL = 2.0


@dataclass
class Pair:
    """A view with the blocks that it is of, and the point (3,), RAS mm, that both have in their middle."""

    fixed: int
    moving: int
    view: View
    middle: NDArray[np.float64]


@dataclass
class Windows:
    """What the windows of some pairs say at one place.

    Attributes:
        similarity: (W,) regularised local NCC, 0 where too few points were compared.
        most: (W,) what it would be for equal images; below 1 where there is little structure.
        compared: (W,) whether enough points were compared.
        slope: (W, 6) its derivatives for a turn (mm at `RADIUS`) and a shift (mm) of the moved blocks.
        curvature: (6, 6) minus its second derivatives, over all windows (Gauss-Newton).
    """

    similarity: NDArray[np.float64]
    most: NDArray[np.float64]
    compared: NDArray[np.bool_]
    slope: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 6)))
    curvature: NDArray[np.float64] = field(default_factory=lambda: np.zeros((6, 6)))

    @property
    def ncc(self) -> float:
        """Local NCC, windows weighted by their structure."""
        return weighted_ncc(self, self.compared)


def weighted_ncc(windows: Windows, chosen: NDArray[np.bool_]) -> float:
    """Local NCC over some of the windows."""
    total = windows.most[chosen].sum()
    return float(windows.similarity[chosen].sum() / total) if total > 0 else 0.0


class Score:
    """Local NCC of the pairs that see some blocks move together."""

    def __init__(
        self, pairs: Sequence[Pair], poses: Sequence[NDArray[np.float64]], moved: Sequence[int]
    ) -> None:
        """`poses`: (4, 4) of each block, from its unmoved space; `moved`: the blocks that a motion is for."""
        self.moved = set(moved)
        self.pairs = [
            pair
            for pair in pairs
            if ((pair.fixed in self.moved) != (pair.moving in self.moved)) and len(pair.view.f)
        ]
        self.poses = list(poses)
        centres = [
            pair.view.centres @ poses[pair.fixed][:3, :3].T + poses[pair.fixed][:3, 3] for pair in self.pairs
        ]
        self.centres = np.concatenate(centres) if centres else np.zeros((0, 3))
        self.centre = self.centres.mean(axis=0) if len(self.centres) else np.zeros(3)
        self.cells = self._cells()
        self.which = np.concatenate([np.full(len(c), n) for n, c in enumerate(centres)] or [np.zeros(0, int)])

    def _cells(self) -> NDArray[np.int64]:
        """(W, 3) coordinates of the cell of each window."""
        if not self.pairs:
            return np.zeros((0, 3), np.int64)
        points = self.pairs[0].view.points[0]
        width = float(np.linalg.norm(points.max(axis=0) - points.min(axis=0))) / np.sqrt(2)
        return np.floor((self.centres - self.centre) / (CELL * max(width, 1.0))).astype(np.int64)

    def central(self, radius: float) -> NDArray[np.bool_]:
        """(W,) windows within `radius` mm of what both of their blocks have in the middle."""
        if not self.pairs:
            return np.zeros(0, bool)
        middles = np.stack([pair.middle for pair in self.pairs])[self.which]
        return np.linalg.norm(self.centres - middles, axis=1) < radius

    def halves(self) -> NDArray[np.bool_]:
        """A checkerboard of cells."""
        return self.cells.sum(axis=1) % 2 == 0

    def part(self, chosen: NDArray[np.bool_]) -> Score:
        """The score over some of the windows."""
        part = object.__new__(Score)
        part.__dict__.update(self.__dict__)
        part.pairs = [
            replace(pair, view=pair.view.subset(chosen[self.which == n])) for n, pair in enumerate(self.pairs)
        ]
        part.centres, part.cells, part.which = self.centres[chosen], self.cells[chosen], self.which[chosen]
        return part

    def motion(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """(4, 4) of a turn about the centre and a shift: parameters (6,), mm."""
        from scipy.spatial.transform import Rotation

        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(parameters[:3] / RADIUS).as_matrix()
        matrix[:3, 3] = self.centre - matrix[:3, :3] @ self.centre + parameters[3:]
        return matrix

    def parameters(self, motion: NDArray[np.float64]) -> NDArray[np.float64]:
        """The parameters (6,) of a rigid motion (4, 4)."""
        from scipy.spatial.transform import Rotation

        shift = motion[:3, :3] @ self.centre + motion[:3, 3] - self.centre
        return np.r_[Rotation.from_matrix(motion[:3, :3]).as_rotvec() * RADIUS, shift]

    def windows(self, parameters: NDArray[np.float64], slopes: bool = False) -> Windows:
        """Every window where the moved blocks have the motion of `parameters` (6,) on top of their poses."""
        motion = self.motion(parameters)
        parts = [self._pair(pair, motion, slopes) for pair in self.pairs]
        if not parts:
            return Windows(np.zeros(0), np.zeros(0), np.zeros(0, bool))

        def joined(name: str) -> Any:
            return np.concatenate([getattr(part, name) for part in parts])

        curvature = np.sum([part.curvature for part in parts], axis=0)
        return Windows(joined("similarity"), joined("most"), joined("compared"), joined("slope"), curvature)

    def _pair(self, pair: Pair, motion: NDArray[np.float64], slopes: bool) -> Windows:
        checkpoint()
        view = pair.view
        pose_a, pose_b = self.poses[pair.fixed], self.poses[pair.moving]
        sign = 1.0 if pair.fixed in self.moved else -1.0
        if sign > 0:
            pose_a = motion @ pose_a
        else:
            pose_b = motion @ pose_b
        relative = np.linalg.inv(pose_b) @ pose_a
        values, inside, gradient = view.sample(relative, slopes)
        mask = (inside & view.valid).float()
        count = mask.sum(dim=1)
        compared = count >= POINTS_NEEDED * mask.shape[1]
        f, _, most_f = _normalised(view.f, mask, count, view.floor)
        g, norm_g, most_g = _normalised(values, mask, count, view.floor_moving)
        ncc = (f * g).sum(dim=1) * compared
        result = Windows(
            ncc.numpy().astype(np.float64),
            (most_f * most_g * compared).numpy().astype(np.float64),
            compared.numpy(),
            np.zeros((len(ncc), 6)),
        )
        if gradient is not None:
            gradient = gradient @ torch.from_numpy(pose_b[:3, :3].T.astype(np.float32))
            origin = (pose_a[:3, :3] @ view.origin + pose_a[:3, 3] - self.centre) / RADIUS
            lever = view.places @ torch.from_numpy((pose_a[:3, :3].T / RADIUS).astype(np.float32))
            lever = lever + torch.from_numpy(origin.astype(np.float32))
            change = sign * torch.cat([torch.linalg.cross(lever, gradient, dim=-1), gradient], -1)
            change = change * (mask / norm_g[:, None])[..., None]
            inner = f - ncc[:, None] * g
            result.slope = torch.einsum("wn,wnp->wp", inner, change).mul(compared[:, None]).double().numpy()
            change = change - (change.sum(dim=1) / count.clamp_min(1)[:, None])[:, None] * mask[..., None]
            along = torch.einsum("wn,wnp->wp", g, change)
            weight = ncc.clamp_min(0.1) * compared
            flat = (change * weight.sqrt()[:, None, None]).reshape(-1, 6)
            along = along * weight.sqrt()[:, None]
            result.curvature = (flat.T @ flat - along.T @ along).double().numpy()
        return result


def _normalised(
    values: torch.Tensor, mask: torch.Tensor, count: torch.Tensor, floor: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Windows with mean 0 and norm 1 (less where there is little structure), their norms, and what is left of 1."""
    n = count.clamp_min(1)
    centred = (values - ((values * mask).sum(dim=1) / n)[:, None]) * mask
    energy = (centred**2).sum(dim=1)
    norm = (energy + n * floor).sqrt()
    return centred / norm[:, None], norm, energy.sqrt() / norm


@dataclass
class Found:
    """A largest local NCC.

    Attributes:
        parameters: (6,) mm: turn at `RADIUS`, and shift.
        gain: of the mean local NCC, against no motion, over the windows that both compare; with the prior.
        covariance: (6, 6) mm^2 of the parameters, from the scatter of the slopes between cells.
        temper: what divides the summed similarity to make it a log likelihood.
    """

    parameters: NDArray[np.float64]
    gain: float
    covariance: NDArray[np.float64]
    temper: float


def climb(
    score: Score,
    start: NDArray[np.float64],
    spread: NDArray[np.float64],
    free: NDArray[np.bool_],
    temper: float | None = None,
    iterations: int = ITERATIONS,
) -> Found:
    """Levenberg-Marquardt on the local NCC, with a normal prior.

    Args:
        start: (6,) where to begin.
        spread: (6,) mm, standard deviations of the prior about 0.
        free: (6,) parameters that may change; the others keep their start.
        temper: of an earlier result; estimated here if None. Windows overlap and share their noise, so the
            summed NCC is no log likelihood until it is divided by the ratio of its slope's variance to its
            curvature (Varin, Reid and Firth 2011 on composite likelihoods).
    """
    parameters = np.array(start, dtype=np.float64)
    here = score.windows(parameters, slopes=True)
    penalty = np.where(free, 1 / spread**2, 0)
    if temper is None:
        temper = _temper(score, here, free)
    damping = 1e-2
    for _ in range(iterations):
        gradient = here.slope.sum(axis=0) - temper * penalty * parameters
        hessian = here.curvature + temper * np.diag(penalty)
        hessian += np.diag(damping * np.diag(hessian) + 1e-9)
        step = np.zeros(6)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        largest = np.abs(step).max()
        if largest > 3.0:
            step *= 3.0 / largest
        trial = parameters + step
        there = score.windows(trial)
        both = here.compared & there.compared
        change = (there.similarity - here.similarity)[both].sum()
        change -= temper / 2 * float(penalty @ (trial**2 - parameters**2))
        enough = both.sum() >= 0.7 * max(here.compared.sum(), 1)
        if change > 0 and enough:
            parameters, damping = trial, max(damping / 5, 1e-4)
            if np.abs(step).max() < SMALLEST_STEP_MM:
                break
            here = score.windows(parameters, slopes=True)
        else:
            damping *= 6
            if np.abs(step).max() < SMALLEST_STEP_MM or damping > 1e5:
                break
    start_windows = score.windows(np.zeros(6))
    both = start_windows.compared & here.compared
    gain = float((here.similarity - start_windows.similarity)[both].mean()) if both.any() else 0.0
    gain -= temper / 2 * float(penalty @ parameters**2) / max(int(both.sum()), 1)
    return Found(parameters, gain, _covariance(score, here, free), temper)


def _scatter(score: Score, windows: Windows) -> NDArray[np.float64]:
    """(6, 6) variance of the summed slope, from sums over cells."""
    chosen = windows.compared
    if not chosen.any():
        return np.zeros((6, 6))
    slope = windows.slope[chosen] - windows.slope[chosen].mean(axis=0)
    _, cell = np.unique(score.cells[chosen], axis=0, return_inverse=True)
    sums = np.zeros((cell.max() + 1, 6))
    np.add.at(sums, cell.ravel(), slope)
    return sums.T @ sums


def _temper(score: Score, windows: Windows, free: NDArray[np.bool_]) -> float:
    """Mean ratio of the slope's variance to the curvature."""
    scatter = np.diag(_scatter(score, windows))[free]
    curvature = np.diag(windows.curvature)[free]
    good = curvature > 1e-9
    return float(np.mean(scatter[good] / curvature[good])) if good.any() else 1.0


def _covariance(score: Score, windows: Windows, free: NDArray[np.bool_]) -> NDArray[np.float64]:
    result = np.zeros((6, 6))
    hessian = windows.curvature[np.ix_(free, free)]
    inverse = np.linalg.pinv(hessian, rcond=1e-6)
    result[np.ix_(free, free)] = inverse @ _scatter(score, windows)[np.ix_(free, free)] @ inverse
    return result


__all__ = ["RADIUS", "Found", "Pair", "Score", "Windows", "climb", "weighted_ncc"]
