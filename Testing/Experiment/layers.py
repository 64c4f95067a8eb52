"""Disc material behind the disc, and what it does to fat, roots, joints and sac: changes to the phantom's layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from GaussianMRILib.phantom.bones import EXPONENT
from GaussianMRILib.phantom.frame import Floats, Points
from GaussianMRILib.phantom.layers import Layer, both
from GaussianMRILib.phantom.soft import ROOT_RADIUS, root_course, sac_depth
from GaussianMRILib.phantom.tissues import ANNULUS, between, disc_material

if TYPE_CHECKING:
    from GaussianMRILib.phantom.build import Build, Disc

_CLEARANCE = 0.2  # mm of fat that always stays between a root or the sac and what presses on it
_FLATTEST = 1.1  # mm, least half-thickness of a root or of the sac
_FAR = 12.0  # mm, more than a root is ever pushed and widened
_FACET_BACK = -42.5  # v in mm of the back of the superior facet, which grows forwards


@dataclass(frozen=True)
class Bulge:
    """Disc material behind the outline of a disc.

    Args:
        side: -1 left, 1 right, 0 both, in front of the thecal sac.
        place: mm from the midline.
        depth: mm backwards at its highest point.
        width, height: mm from there, across and along the spine, at which it has 1/e of its depth.
        s: mm along the spine.
    """

    side: int
    place: float
    depth: float
    width: float
    height: float
    s: float

    def across(self, u: Floats) -> Floats:
        """Depth in mm at mid-height, u mm to the right of the midline."""
        at = u * self.side if self.side else np.abs(u)
        return np.asarray(self.depth * np.exp(-(((at - self.place) / self.width) ** 2)), dtype=np.float32)

    def along(self, s: Floats, extra: float = 0.0) -> Floats:
        """Share of that depth at s; `extra` mm make it taller."""
        return np.asarray(np.exp(-(((s - self.s) / (self.height + extra)) ** 2)), dtype=np.float32)


class Displacement:
    """Where the structures behind a disc lie when it bulges.

    Args:
        disc: that bulges.
        bulges: all of them.
        flavum, facet: mm by which the ligamentum flavum is thicker and the superior facet longer to the front, by side.
        roots: mm by which the roots lie further back, by side.
        signal: of the bulging material in T2.
        indents: whether the thecal sac gives way to the bulges of the midline.
    """

    def __init__(
        self,
        disc: Disc,
        bulges: Sequence[Bulge],
        flavum: Mapping[str, float],
        facet: Mapping[str, float],
        roots: Mapping[str, float],
        signal: float,
        indents: bool,
    ) -> None:
        self.disc, self.signal, self.indents = disc, signal, indents
        self.bulges = tuple(bulge for bulge in bulges if bulge.depth > 0)
        self._flavum, self._facet, self._roots = flavum, facet, roots

    # ---- surfaces: v in mm, negative backwards

    def border(self, u: Floats) -> Floats:
        """Back of the disc without bulges."""
        dent = 1.6 * np.exp(-((u / 9) ** 2))
        return np.asarray(self.disc.half_depth - 17.0 - self._half_depth(u) + dent, dtype=np.float32)

    def front(self, u: Floats) -> Floats:
        """Front of the disc."""
        return np.asarray(self.disc.half_depth - 17.0 + self._half_depth(u), dtype=np.float32)

    def _half_depth(self, u: Floats) -> Floats:
        a, b = self.disc.half_width + 0.8, self.disc.half_depth + 0.6
        return np.asarray(b * np.maximum(1 - (np.abs(u) / a) ** EXPONENT, 0.0) ** (1 / EXPONENT))

    def reach(self, u: Floats, s: Floats, extra: float = 0.0, central: bool = False) -> Floats:
        """Depth in mm of the bulges behind the border; `central`: of those on no side."""
        total = np.zeros(np.broadcast(u, s).shape, dtype=np.float32)
        for bulge in self.bulges:
            if not (central and bulge.side):
                total += bulge.across(u) * bulge.along(s, extra)
        return total

    def flavum_front(self, u: Floats) -> Floats:
        """Front of the ligamentum flavum."""
        return np.asarray(0.66 * np.abs(u) - 37.0 + 1.2 * self.flavum(u), dtype=np.float32)

    def facet_front(self, u: Floats) -> Floats:
        """Front of the superior facet."""
        rest = np.sqrt(np.maximum(1 - ((np.abs(u) - 21.0) / 5.6) ** 2, 0.0))
        front = -35.5 + 7.0 * rest
        return np.asarray(_FACET_BACK + (front - _FACET_BACK) * self.stretch(u), dtype=np.float32)

    def room(self, u: float, foramen: bool) -> float:
        """mm between the highest point of the bulges and what lies behind; in a foramen less the root's diameter."""
        at, s = np.full(201, u, dtype=np.float32), np.linspace(-10, 10, 201, dtype=np.float32) + self.disc.s
        front = float((self.border(at) - self.reach(at, s)).min())
        if foramen:
            return front - float(self.facet_front(at)[0]) - 2 * ROOT_RADIUS
        return front - float(self.flavum_front(at)[0])

    # ---- by side

    def flavum(self, u: Floats) -> Floats:
        """Thickening in mm."""
        return _by_side(u, self._flavum)

    def stretch(self, u: Floats) -> Floats:
        """Scale of the superior facet from its back to its front."""
        return np.asarray(1 + _by_side(u, self._facet) / 14.0, dtype=np.float32)

    def roots(self, u: Floats) -> Floats:
        """Displacement backwards in mm."""
        return _by_side(u, self._roots)


def _by_side(u: Floats, values: Mapping[str, float]) -> Floats:
    return np.where(u < 0, np.float32(values["left"]), np.float32(values["right"]))


def with_stenosis(layers: Sequence[Layer], displacement: Displacement, build: Build) -> list[Layer]:
    """The layers of a phantom after its disc has bulged; changes those of the disc's level by name."""
    disc = displacement.disc
    above = build.lumbar[build.lumbar.index(disc) + 1]
    changes: dict[str, list[Callable[[Layer], Layer]]] = {
        f"flavum {disc.name}": [
            lambda layer: _thickened(layer, displacement),
            lambda _: _bulge(displacement),
        ],
        f"superior facet {disc.name}": [lambda layer: _stretched(layer, displacement)],
    }
    for root in (disc, above):
        changes[f"root below {root.name}"] = [lambda layer, root=root: _pushed(layer, displacement, root)]  # type: ignore[misc]
        changes[f"fat around root below {root.name}"] = [lambda layer: _cut(layer, displacement)]
    if displacement.indents:
        for name in ("thecal sac", *(layer.name for layer in layers if layer.name.startswith("rootlet "))):
            changes[name] = [lambda layer: _indented(layer, displacement, build)]
    unchanged: list[Callable[[Layer], Layer]] = [lambda layer: layer]
    return [change(layer) for layer in layers for change in changes.get(layer.name, unchanged)]


def _bulge(displacement: Displacement) -> Layer:
    def distance(p: Points) -> Floats:
        border, reach = displacement.border(p.u), displacement.reach(p.u, p.s)
        return both(border - reach - p.v, p.v - border - 0.3, 0.5 - reach)

    s, material = displacement.disc.s, disc_material(displacement.signal)
    return Layer(
        f"bulge {displacement.disc.name}", distance,
        [(0.0, between(material, ANNULUS[1])), (0.8, material)],
        along=(s - 8, s + 8), side=(0, 30), front=(-30, -2),
    )  # fmt: skip


def _thickened(layer: Layer, displacement: Displacement) -> Layer:
    def distance(p: Points) -> Floats:
        return layer.distance(p) - displacement.flavum(p.u)

    return replace(layer, distance=distance, side=(0, 20), front=(-46, -20))


def _stretched(layer: Layer, displacement: Displacement) -> Layer:
    def distance(p: Points) -> Floats:
        v = _FACET_BACK + (p.v - _FACET_BACK) / displacement.stretch(p.u)
        return layer.distance(replace(p, v=v))

    return replace(layer, distance=distance, front=(-50, -17))


def _cut(layer: Layer, displacement: Displacement) -> Layer:
    """A layer that ends at the bulges."""

    def distance(p: Points) -> Floats:
        reach = displacement.reach(p.u, p.s)
        bulging = np.maximum(displacement.border(p.u) - reach - p.v, 0.5 - reach)
        return both(layer.distance(p), -bulging)

    return replace(layer, distance=distance)


def _pushed(layer: Layer, displacement: Displacement, disc: Disc) -> Layer:
    """A root behind the bulges, flattened where it has no room before flavum or facet, and wider there."""

    def distance(p: Points) -> Floats:
        as_it_was = layer.distance(p)
        if float(as_it_was.min()) > _FAR:
            return as_it_was
        side, v = root_course(disc, p.s)
        u = np.copysign(side, p.u)
        course = v - displacement.roots(u)
        # A nerve does not kink: it is pushed over a longer way than the bulge is tall.
        edge = displacement.border(u) - displacement.reach(u, p.s, extra=2.0) - _CLEARANCE
        front = np.minimum(course + ROOT_RADIUS, edge)
        behind = np.where(side < 15.5, displacement.flavum_front(u), displacement.facet_front(u))
        missing = np.maximum(2 * ROOT_RADIUS - (front - behind - _CLEARANCE), 0)
        half = ROOT_RADIUS - np.minimum(missing, course + ROOT_RADIUS - front) / 2
        flat = np.maximum(half, _FLATTEST) / ROOT_RADIUS
        centre = front - flat * ROOT_RADIUS
        warped = replace(p, v=v + (p.v - centre) / flat, side=np.abs(side + (p.side - side) * np.sqrt(flat)))
        return np.asarray(layer.distance(warped) * flat, dtype=np.float32)

    return replace(layer, distance=distance, side=(0, 45), front=(-36, 8))


def _indented(layer: Layer, displacement: Displacement, build: Build) -> Layer:
    """The thecal sac, or a rootlet in it, behind what bulges in the midline: flattened towards its back."""

    def distance(p: Points) -> Floats:
        middle, half = sac_depth(build, p)
        back = middle - half
        # The dura does not kink either.
        edge = displacement.border(p.u) - displacement.reach(p.u, p.s, extra=2.0, central=True) - _CLEARANCE
        flat = np.clip((edge - back) / (2 * half), np.minimum(_FLATTEST / half, 1), 1)
        return np.asarray(layer.distance(replace(p, v=back + (p.v - back) / flat)) * flat, dtype=np.float32)

    return replace(layer, distance=distance)
