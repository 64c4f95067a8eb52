"""Vertebral bodies, discs, posterior elements and sacrum of the lumbar phantom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .build import Build, Disc
from .frame import Floats, Points
from .layers import Layer, Texture, Value, both, ellipse, rounded, slab, superellipse
from .tissues import (
    ANNULUS,
    BASIVERTEBRAL,
    CLEFT,
    CORTEX,
    FACET_MARROW,
    INNER_ANNULUS,
    JOINT_FLUID,
    MARROW,
    Contrast,
    between,
    disc_material,
)

EXPONENT = 2.3


def _outline(p: Points, a: Floats | float, b: Floats | float, v: Floats | float) -> Floats:
    """Outline of a body or disc across the spine: superellipse about (0, v), flat towards the canal."""
    dent = 1.6 * np.exp(-((p.u / 9) ** 2)) * (p.v < 0)
    return np.asarray(superellipse(p.u, p.v - v, a, b, EXPONENT) + dent, dtype=np.float32)


def _half_height(p: Points, disc: Disc) -> Floats:
    """Half the height of a disc in mm: wedge-shaped, and thicker where the end plates are hollow."""
    wedge = disc.wedge * np.clip(p.v / (2 * disc.half_depth), -0.6, 0.6)
    hollow = 1 - (p.u / disc.half_width) ** 2 - ((p.v + 2) / disc.half_depth) ** 2
    return np.asarray((disc.height - 0.7 + wedge + 2.2 * np.maximum(hollow, 0)) / 2, dtype=np.float32)


def _between(p: Points, low: Disc, high: Disc) -> Floats:
    """Signed distance to the space between the end plates of two neighbouring discs."""
    above = _half_height(p, low) - (p.s - low.s) * p.metric
    below = (p.s - high.s) * p.metric + _half_height(p, high)
    return both(above, below)


def _body(p: Points, low: Disc, high: Disc) -> Floats:
    """Vertebral body between two discs, with its waist."""
    blend = np.clip((p.s - low.s) / (high.s - low.s), 0, 1)
    waist = 1 - 0.4 * blend * (1 - blend)
    a = (low.half_width * (1 - blend) + high.half_width * blend) * waist
    b = (low.half_depth * (1 - blend) + high.half_depth * blend) * waist
    # The back of every body lies on the front of the canal, 17 mm behind the curve.
    return rounded([_outline(p, a, b, b - 17.0), _between(p, low, high)], 1.5)


def _arch(p: Points, low: Disc, high: Disc) -> Floats:
    """Pedicles, transverse processes, laminae and spinous process of a lumbar vertebra, one piece of bone."""
    pedicle, middle = high.s - 12.5, (low.s + high.s) / 2
    tip = -60.0 if high.name == "L4-L5" else -66.0
    height = (p.s - pedicle) * p.metric
    pedicles = rounded([slab(p.side - 17.2, 4.6), slab(p.v + 22, 14.0), slab(height, 6.5)], 3.0)
    lift = 0.25 * (p.side - 18)
    transverse = rounded(
        [slab(p.side - 28, 14.0), slab(p.v + 28 + lift, 4.0), slab(height - 0.2 * lift, 5.0)], 2.5
    )
    wall = (p.v + 43.5 - 0.62 * p.side) * 0.85
    lamina = rounded(
        [slab(wall, 3.4), slab(p.side, 17.0), slab(p.s - middle + 5 - 0.2 * (p.v + 42), 11.0)], 3.0
    )
    sag = p.s - middle + 8 - 0.25 * (p.v + 42)
    width = 3.2 + 1.8 * np.clip((-p.v - 52) / 10, 0, 1)
    spinous = rounded([p.side - width, slab(p.v - (tip - 41) / 2, (-41 - tip) / 2), slab(sag, 10.0)], 3.0)
    return np.minimum(np.minimum(pedicles, transverse), np.minimum(lamina, spinous))


def _vertebra(low: Disc, high: Disc, marrow: Callable[[Points, Contrast], Floats], arch: bool) -> Layer:
    middle, half = (low.s + high.s) / 2, (high.s - low.s) / 2

    def distance(p: Points) -> Floats:
        body = _body(p, low, high)
        return np.minimum(body, _arch(p, low, high)) if arch else body

    def signal(p: Points, contrast: Contrast) -> Floats:
        # The basivertebral vein enters from behind at half height; marrow is a little fatter beside the end
        # plates.
        vein = (
            np.exp(-(((p.s - middle) / 2.2) ** 2) - (p.u / 5) ** 2)
            * np.clip((-4 - p.v) / 8, 0, 1)
            * (p.v > -19)
        )
        rim = 0.06 * np.exp(-(((np.abs(p.s - middle) - half + 9) / 3) ** 2))
        return np.asarray(marrow(p, contrast) * (1 + rim) + contrast.of(BASIVERTEBRAL) * vein, dtype=np.float32)

    return Layer(
        f"vertebra above {low.name}", distance, [(0.0, CORTEX), (0.8, signal)],
        along=(low.s - 18, high.s + 8), side=(0, 44), front=(-72, 22),
    )  # fmt: skip


def _disc(disc: Disc) -> list[Layer]:
    v = disc.half_depth - 17.0
    along = (disc.s - disc.height, disc.s + disc.height)
    side, front = (0.0, disc.half_width + 3), (-disc.half_depth - 10, disc.half_depth + 5)

    def across(p: Points) -> Floats:
        return _outline(p, disc.half_width + 0.8, disc.half_depth + 0.6, v)

    def height(p: Points) -> Floats:
        return np.asarray(np.abs(p.s - disc.s) * p.metric - _half_height(p, disc), dtype=np.float32)

    def annulus(p: Points, contrast: Contrast) -> Floats:
        # Lamellae: dark outside, brighter towards the nucleus.
        signals = [contrast.of(lamella) for lamella in ANNULUS]
        return np.interp(-across(p), [0.0, 1.5, 4.0, 6.5], signals).astype(np.float32)

    def nucleus(p: Points) -> Floats:
        return both(_outline(p, 0.74 * disc.half_width, 0.70 * disc.half_depth, v - 1.0), height(p) + 0.4)

    def signal(p: Points, contrast: Contrast) -> Floats:
        cleft = np.exp(-(((p.s - disc.s) * p.metric / 0.9) ** 2))
        darker = contrast.of(CLEFT) * cleft * min(1.0, disc.nucleus / 0.4)
        return np.asarray(contrast.of(material) * (1 - darker), dtype=np.float32)

    material = disc_material(disc.nucleus)
    middle = between(material, INNER_ANNULUS)
    return [
        Layer(
            f"annulus {disc.name}", lambda p: both(across(p), height(p)), [(0.0, annulus)], along, side, front
        ),
        Layer(f"nucleus {disc.name}", nucleus, [(-0.6, middle), (0.8, signal)], along, side, front, edge=2.0),
    ]


def _facets(disc: Disc, marrow: Value) -> list[Layer]:
    """The two facet joints of a level: articular processes of the upper and lower vertebra, fluid between."""
    reach = (disc.s - 14.0, disc.s + 20.0), (6.0, 30.0), (-50.0, -24.0)

    def inferior(p: Points) -> Floats:
        return rounded([ellipse(p.side - 15.0, p.v + 40.5, 5.6, 6.2), slab(p.s - disc.s - 5, 11.0)], 3.0)

    def superior(p: Points) -> Floats:
        return rounded([ellipse(p.side - 21.0, p.v + 35.5, 5.6, 7.0), slab(p.s - disc.s - 1, 11.0)], 3.0)

    def joint(p: Points) -> Floats:
        a, b = inferior(p), superior(p)
        return both(np.abs(a - b) / 2 - 0.45, np.maximum(a, b) - 1.6)

    bands: list[tuple[float, Value]] = [(0.0, CORTEX), (1.1, marrow)]
    return [
        Layer(f"superior facet {disc.name}", superior, bands, *reach),
        Layer(f"inferior facet {disc.name}", inferior, bands, *reach),
        Layer(f"facet joint {disc.name}", joint, [(0.0, JOINT_FLUID)], *reach, edge=0.7),
    ]


def _sacrum(marrow: Value) -> list[Layer]:
    def ala(p: Points) -> Floats:
        # Wings on both sides of S1, with the first sacral foramen left open.
        outline = rounded(
            [slab(p.side - 31, 25.0), slab(p.v + 9 + 0.28 * (p.side - 16), 11.0), slab(p.s + 24, 17.0)], 5.0
        )
        foramen = ellipse(p.side - 17, (p.s + 31) * 1.0, 5.0, 5.5)
        return both(outline, -foramen)

    def plate(p: Points) -> Floats:
        # Fused laminae and the median crest behind the sacral canal.
        wall = (p.v + 41 - 0.5 * np.minimum(p.side, 24) - 0.12 * np.minimum(p.s + 10, 0)) * 0.9
        crest = rounded([p.side - 3.4, slab(p.v + 45, 8.0), slab(p.s + 26, 15.0)], 3.2)
        return np.minimum(rounded([slab(wall, 3.2), slab(p.side, 30.0), slab(p.s + 32, 22.0)], 1.5), crest)

    def ilium(p: Points) -> Floats:
        across = (p.side - 68 - 0.1 * (p.s + 30)) * 0.85 - (p.v + 20) * 0.5 + 0.008 * (p.v + 5) ** 2
        thickness = 5.0 + 2.0 * np.clip((-p.v - 30) / 20, 0, 1)
        return rounded([slab(across, thickness), slab(p.v + 16, 38.0), slab(p.s + 55, 72.0)], 4.0)

    bands: list[tuple[float, Value]] = [(0.0, CORTEX), (1.0, marrow)]
    return [
        Layer("ilium", ilium, bands, (-130, 20), (20, 130), (-70, 30)),
        Layer("sacral ala", ala, bands, (-45, -3), (4, 60), (-45, 20)),
        Layer("sacral plate", plate, bands, (-58, -6), (0, 32), (-58, -18)),
    ]


def bone_layers(build: Build, textures: dict[str, Texture], part: str = "bodies") -> list[Layer]:
    """Layers of bone and disc; `part` "bodies" for all but the facet joints, "facets" for those."""
    texture = textures["marrow"]

    def marrow(p: Points, contrast: Contrast) -> Floats:
        return np.asarray(contrast.of(MARROW) * (1 + 0.07 * texture(p)), dtype=np.float32)

    if part == "facets":
        return [layer for disc in build.lumbar for layer in _facets(disc, FACET_MARROW)]
    lumbar = build.lumbar
    layers = _sacrum(marrow)
    for low, high in zip(build.discs[:-1], build.discs[1:], strict=True):
        layers.append(_vertebra(low, high, marrow, arch=low in lumbar))
    return layers + [layer for disc in build.discs for layer in _disc(disc)]
