"""Smooth curves with a moving frame, and the space in which they are straight."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from .affine import LARGEST_POSITION_MM, numbers, transform_points, unit_vector

#: mm between the places at which a curve and its frames are tabulated; cubic splines run through them.
KNOT_MM = 1.0
#: Points of a curve nearer to each other than this (mm) are one.
_SAME_MM = 1e-3
LONGEST_MM = 10_000.0
#: Sine of the angle between curve and direction below which the direction says nothing about the frame: 6 degrees.
_LEAST_SINE = 0.1
#: Directions across a curve, RAS, in the order in which they are taken by default.
ACROSS = {"back": (0, -1, 0), "feet": (0, 0, -1), "left": (-1, 0, 0)}
#: Cosine of the angle to a curve from which on it runs along a direction.
_ALONG = 0.9
_NEWTON_STEPS = 30
_INVERTED_MM = 1e-6

Floats = NDArray[np.float64]


class Curve:
    """A smooth curve through points, by its arc length s in mm, with a frame that moves along it.

    At each place the frame has three perpendicular unit vectors: `across` and `aside`, which span the plane across the
    curve, and the tangent; they are right-handed in this order. The frame turns about the curve as little as possible
    (double reflection, Wang et al., "Computation of rotation minimizing frames", ACM Transactions on Graphics 27(1), 2008),
    or keeps a direction of the patient.

    In its **straight space** the curve is a straight line as long as itself, with the same coordinates across and aside
    of it. That line lies along the chord, through the curve's mean place, with the mean direction of `across`, so that left
    and head stay about where they are; a straight curve stays in place. Beyond its ends the curve goes on straight.

    Args:
        points: (N, 3) RAS mm, at least two places; a cubic spline by their distances runs through them. Where the last is
            the first the curve is closed, and cut open there.
        across: direction of `across`, (3,) RAS or one of `ACROSS` by name; default: the first of them along which the curve
            nowhere runs: of a spine, to the back.
        fixed: `across` is everywhere as near to that direction as it can be; else it is so in the middle of the curve, and
            the frame turns as little as possible from there.
        turn: degrees by which the frame is turned about the curve.

    Attributes:
        length: mm.
        straight_to_ras: (4, 4): columns are across, aside and along the straight curve, and its beginning, RAS mm.

    Raises:
        GaussianMRIError: fewer than two places, numbers that are not finite, a direction along the curve.

    Example:
        >>> curve = Curve([(0, 0, 0), (0, 0, 50), (0, 0, 100)])
        >>> curve.length, curve.to_curved([0, -5, 30]).round(6).tolist()
        (100.0, [0.0, -5.0, 30.0])
    """

    def __init__(
        self, points: ArrayLike, *, across: ArrayLike | str | None = None, fixed: bool = False, turn: float = 0.0
    ) -> None:
        places, closed = _distinct(points)
        center, self._knots = _by_arc_length(places, closed)
        self.length = float(self._knots[-1])
        self._center = _spline(self._knots, center, "periodic" if closed else "not-a-knot")
        self._tangent, self._bend = self._center.derivative(), self._center.derivative(2)
        tangents = _unit(self._tangent(self._knots))
        wanted = _direction(across, tangents)
        if not np.isfinite(turn):
            raise GaussianMRIError(f"The turn about a curve must be a number of degrees, got {turn}.")
        angle = np.deg2rad(turn)
        side = _kept(tangents, wanted, self._knots) if fixed else _least_turning(center, tangents, wanted)
        side = np.cos(angle) * side + np.sin(angle) * np.cross(tangents, side)
        self._across = _spline(self._knots, side, "not-a-knot")
        self.straight_to_ras = self._straight(center, side)
        options = {"across": wanted.tolist(), "fixed": bool(fixed), "turn": float(turn)}
        self._given = {"points": np.round(places, 6).tolist(), **options}

    def to_dict(self) -> dict[str, Any]:
        """What `Curve(**...)` makes the same curve of, to a thousandth of a mm; JSON types."""
        return dict(self._given)

    @classmethod
    def from_markups(cls, markups: str | os.PathLike[str] | Mapping[str, Any], **options: Any) -> Curve:
        """The first curve markup of a Slicer `.mrk.json` file (path or parsed content), open or closed, as Slicer draws it.

        Args:
            options: as of `Curve`.

        Raises:
            GaussianMRIError: no markups file, no curve in it, or one of fewer than two points.
        """
        from ..files import reading
        from .markups import markups_name, read_curve_markup

        points = read_curve_markup(markups)
        with reading(markups_name(markups), "a markups file"):
            curve = cls(points, **options)
        return curve

    # ---- along the curve

    def frames(self, s: ArrayLike) -> Floats:
        """Frames (S, 4, 4), RAS mm, at s (S,), mm from the beginning: columns across, aside, tangent (unit) and place."""
        along = np.atleast_1d(np.asarray(s, np.float64))
        there = np.clip(along, 0.0, self.length)
        tangent = _unit(self._tangent(there))
        across = self._across(there)
        across = _unit(across - _dot(across, tangent) * tangent)
        frames = np.zeros((len(along), 4, 4))
        frames[:, :3, 0], frames[:, :3, 1], frames[:, :3, 2] = across, np.cross(tangent, across), tangent
        frames[:, :3, 3] = self._center(there) + (along - there)[:, None] * tangent
        frames[:, 3, 3] = 1.0
        return frames

    def tightest(self, across: float, *, aside: float = 0.0) -> tuple[float, float]:
        """Where a strip along the curve is bent most.

        Args:
            across, aside: mm of the strip on either side of the curve.

        Returns:
            How far it is folded, and mm from the beginning: 1 or more where neighbouring planes across the curve meet
            within the strip, which shows places there twice and mirrored; 0 of a straight curve.
        """
        s = np.arange(0.0, self.length, KNOT_MM / 2)
        bend, frames = self._bend(s), self.frames(s)
        folded = across * np.abs(np.einsum("sc,sc->s", bend, frames[:, :3, 0]))
        folded += aside * np.abs(np.einsum("sc,sc->s", bend, frames[:, :3, 1]))
        most = int(np.argmax(folded))
        return float(folded[most]), float(s[most])

    def folding(self, across: float, *, aside: float = 0.0) -> str:
        """A sentence where a strip along the curve is folded, else empty; see `tightest`."""
        folded, s = self.tightest(across / 2, aside=aside / 2)
        if folded < 1:
            return ""
        size = f"{across:g}" if aside == 0 else f"{across:g} x {aside:g}"
        return (
            f"{s:.0f} mm from its beginning the curve is bent too tightly for a width of {size} mm: inside the bend, places "
            f"are shown twice. {100 / folded:.0f} % of that width is free of it; or place fewer points."
        )

    # ---- there and back

    def to_curved(self, points: ArrayLike) -> Floats:
        """Where points (..., 3) of the straight space are in the patient, RAS mm both."""
        x = np.asarray(points, np.float64)
        local = transform_points(np.linalg.inv(self.straight_to_ras), x.reshape(-1, 3))
        frames = self.frames(local[:, 2])
        found = frames[:, :3, 3] + frames[:, :3, 0] * local[:, :1] + frames[:, :3, 1] * local[:, 1:2]
        return np.asarray(found.reshape(x.shape))

    def to_straight(self, points: ArrayLike) -> Floats:
        """Where points (..., 3) of the patient are in the straight space, RAS mm both.

        A point belongs to the plane across the curve nearest to it. NaN where it lies beyond the centre of the curve's
        bend, through which no plane of its neighbourhood passes in order.
        """
        from scipy.spatial import cKDTree

        x = np.asarray(points, np.float64)
        flat = x.reshape(-1, 3)
        s = self._knots[cKDTree(self._center(self._knots)).query(flat)[1]]
        off = np.full(len(flat), np.inf)
        for _ in range(_NEWTON_STEPS):
            frames = self.frames(s)
            away = flat - frames[:, :3, 3]
            off = np.einsum("nc,nc->n", away, frames[:, :3, 2])
            if np.abs(off).max(initial=0.0) < _INVERTED_MM:
                break
            inside = (s >= 0) & (s <= self.length)
            bend = np.where(inside[:, None], self._bend(np.clip(s, 0.0, self.length)), 0.0)
            slope = 1.0 - np.einsum("nc,nc->n", away, bend)
            s = s + np.clip(off / np.maximum(slope, 0.05), -5 * KNOT_MM, 5 * KNOT_MM)
        local = np.einsum("nca,nc->na", frames[:, :3, :3], away)
        local[:, 2] = np.where(np.abs(off) < 1e3 * _INVERTED_MM, s, np.nan)
        return np.asarray(transform_points(self.straight_to_ras, local).reshape(x.shape))

    def _straight(self, center: Floats, side: Floats) -> Floats:
        chord, mean = center[-1] - center[0], side.mean(axis=0)
        axis = chord / max(float(np.linalg.norm(chord)), _SAME_MM)
        mean = mean - (mean @ axis) * axis
        if np.linalg.norm(chord) < _LEAST_SINE * self.length or np.linalg.norm(mean) < _LEAST_SINE:
            frame = self.frames(self.length / 2)[0]  # a ring, or nearly one: as in the middle
            axis, mean = frame[:3, 2], frame[:3, 0]
        across = mean / np.linalg.norm(mean)
        # The mean over the length: the ends count half.
        middle = (center[1:] + center[:-1]).mean(axis=0) / 2
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([across, np.cross(axis, across), axis], axis=1)
        matrix[:3, 3] = middle - self.length / 2 * axis
        return matrix


def _direction(across: ArrayLike | str | None, tangents: Floats) -> Floats:
    """Unit vector (3,) of the direction across a curve with these tangents (K, 3)."""
    if across is None:
        along = {name: float(np.abs(tangents @ axis).max()) for name, axis in ACROSS.items()}
        across = next((name for name, most in along.items() if most < _ALONG), min(along, key=lambda name: along[name]))
    if isinstance(across, str):
        if across not in ACROSS:
            raise GaussianMRIError(f"There is no direction '{across}' across a curve; choose one of {', '.join(ACROSS)}.")
        across = ACROSS[across]
    return unit_vector(across, what="direction across the curve")


def _distinct(points: ArrayLike) -> tuple[Floats, bool]:
    """Points without repetitions, and whether they are a ring."""
    if isinstance(points, (str, os.PathLike)):
        raise GaussianMRIError(f"A curve needs points (N, 3); Curve.from_markups({os.fspath(points)!r}) reads a file.")
    x = numbers(points, "points of a curve")
    if x.ndim != 2 or x.shape[1] != 3 or not np.all(np.abs(x) <= LARGEST_POSITION_MM):  # or NaN
        raise GaussianMRIError(f"A curve needs points (N, 3), finite and in RAS mm, got an array {x.shape}.")
    if len(x):
        x = x[np.r_[True, np.linalg.norm(np.diff(x, axis=0), axis=1) > _SAME_MM]]
    if len(x) < 2:
        raise GaussianMRIError("A curve needs at least two points at different places; place more.")
    return x, len(x) > 3 and float(np.linalg.norm(x[0] - x[-1])) <= _SAME_MM


def _by_arc_length(points: Floats, closed: bool) -> tuple[Floats, Floats]:
    """A smooth curve through points at equal steps: places (K, 3), and their arc length (K,), mm."""
    chord = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    if closed:
        points = np.concatenate([points[:-1], points[:1]])
    through = _spline(chord, points, "periodic" if closed else "not-a-knot")
    parts = max(4, 512 // len(points))
    ends = np.interp(np.arange((len(chord) - 1) * parts + 1) / parts, np.arange(len(chord)), chord)
    nodes, weights = np.polynomial.legendre.leggauss(5)
    half = np.diff(ends) / 2
    at = (ends[:-1] + half)[:, None] + half[:, None] * nodes
    speed = np.linalg.norm(through(at, 1), axis=-1)
    length = np.r_[0.0, np.cumsum(half * (speed @ weights))]
    if length[-1] > LONGEST_MM:
        raise GaussianMRIError(f"A curve of {length[-1]:.0f} mm is longer than any patient; its points must be in mm.")
    s = np.linspace(0.0, length[-1], max(8, int(np.ceil(length[-1] / KNOT_MM))) + 1)
    to_length, t = _spline(ends, length, "not-a-knot"), np.interp(s, length, ends)
    for _ in range(4):
        t = np.clip(t - (to_length(t) - s) / np.maximum(to_length(t, 1), 1e-3), 0.0, chord[-1])
    places = through(t)
    if closed:
        places[-1] = places[0]
    return places, s


def _least_turning(places: Floats, tangents: Floats, wanted: Floats) -> Floats:
    """Directions (K, 3) across a curve that turn as little as possible, from `wanted` in its middle."""
    steps = np.diff(places, axis=0)
    mirrored = tangents[:-1] - 2 * _dot(tangents[:-1], steps) / _dot(steps, steps) * steps
    other = tangents[1:] - mirrored
    turns = _reflections(other) @ _reflections(steps)
    start = np.eye(3)[int(np.argmin(np.abs(tangents[0])))]
    first = np.empty_like(tangents)
    first[0] = unit_vector(np.cross(tangents[0], start))
    for k, turn in enumerate(turns):
        first[k + 1] = turn @ first[k]
    first = _unit(first - _dot(first, tangents) * tangents)
    middle = len(places) // 2
    second = np.cross(tangents, first)
    along = float(wanted @ first[middle]), float(wanted @ second[middle])
    if np.hypot(*along) < _LEAST_SINE:
        raise GaussianMRIError("The direction across the curve runs along its middle; choose another direction.")
    angle = np.arctan2(along[1], along[0])
    return np.asarray(np.cos(angle) * first + np.sin(angle) * second)


def _kept(tangents: Floats, wanted: Floats, s: Floats) -> Floats:
    """Directions (K, 3) across a curve nearest to `wanted` everywhere."""
    side = wanted - (tangents @ wanted)[:, None] * tangents
    lengths = np.linalg.norm(side, axis=1)
    if lengths.min() < _LEAST_SINE:
        raise GaussianMRIError(
            f"{s[int(np.argmin(lengths))]:.0f} mm from its beginning the curve runs along the direction that is kept across "
            "it; choose another direction, or the frame that turns least."
        )
    return np.asarray(side / lengths[:, None])


def _spline(x: Floats, y: Floats, ends: str) -> Any:
    from scipy.interpolate import CubicSpline

    return CubicSpline(x, y, bc_type=ends)


def _reflections(normals: Floats) -> Floats:
    """Matrices (K, 3, 3) of reflections in planes with normals (K, 3) of any length."""
    squared = np.einsum("kc,kc->k", normals, normals)[:, None, None]
    return np.asarray(np.eye(3) - 2 * normals[:, :, None] * normals[:, None, :] / squared)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _dot(a: Floats, b: Floats) -> Floats:
    return np.einsum("kc,kc->k", a, b)[:, None]
