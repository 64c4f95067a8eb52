"""Skin, fat, muscle, vessels, spinal canal, sac and nerve roots of the lumbar phantom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .build import Build, Disc
from .frame import Floats, Points
from .layers import Layer, Texture, Value, both, ellipse, rounded, slab, superellipse
from .tissues import (
    ARTERY,
    BOWEL,
    BOWEL_VARIES,
    BOWEL_WALL,
    CORD,
    CORD_SURFACE,
    CSF,
    DEEP_FAT,
    DURA,
    EPINEURIUM,
    FASCIA,
    FAT,
    FLAVUM,
    FORAMINAL_FAT,
    INTERSPINOUS,
    LIGAMENT,
    MUSCLE,
    MUSCLE_SURFACE,
    PERINEURAL_FAT,
    ROOT,
    ROOTLET,
    SEPTUM,
    SKIN,
    STREAK,
    VEIN,
    VESSEL_WALL,
    Contrast,
)

ROOT_RADIUS = 2.9

# Course of a root relative to its pedicle: s above it, then |u| and v; at the disc above the pedicle it
# passes the lateral recess at 10 mm, beside the disc below it has left through the foramen at 22 mm.
_ROOT_PEDICLE = -12.5  # mm from the disc above it
_ROOT_S = np.array([-60.0, -42.0, -24.5, -12.0, 0.0, 12.0, 24.0, 40.0])
_ROOT_U = np.array([38.0, 31.0, 22.0, 15.5, 12.0, 10.0, 7.5, 5.0])
_ROOT_V = np.array([2.0, -6.0, -14.0, -21.0, -22.5, -22.0, -23.5, -26.0])
# Course of the thecal sac: s, v of its middle, half its width and half its depth.
_SAC_S = [-66.0, -58, -25, 0, 37, 75, 112]
_SAC_V = [-22.5, -23, -25.0, -26.5, -25.3, -25.8, -26]
_SAC_WIDTH = [0.5, 2.5, 6.3, 8.0, 9.6, 10.6, 11.0]
_SAC_DEPTH = [0.5, 2.0, 4.2, 5.5, 6.8, 7.6, 8.0]


class Skin:
    """The surface of the back, over subcutaneous fat of the given thickness in mm."""

    def __init__(self, fat: float) -> None:
        self.fat = fat

    def depth(self, p: Points) -> Floats:
        """Distance in mm to the skin, negative inside the body."""
        bulge = 5 * np.exp(-(((p.side - 34) / 18) ** 2)) - 0.0024 * p.side**2
        return np.asarray(p.back - 62 - self.fat - bulge - p.y, dtype=np.float32)


def _along(p: Points, stations: list[float], values: list[float]) -> Floats:
    return np.interp(p.s, stations, values).astype(np.float32)


def soft_layers(build: Build, textures: dict[str, Texture], skin: Skin, part: str) -> list[Layer]:
    """Layers in the order of painting: "background" before bone, "canal" before the facets, "neural" last."""
    if part == "background":
        return _trunk(build, textures, skin) + _muscles(build, textures, skin) + _vessels()
    if part == "canal":
        return _canal(build, textures)
    return _neural(build)


def _trunk(build: Build, textures: dict[str, Texture], skin: Skin) -> list[Layer]:
    def fat(p: Points, contrast: Contrast) -> Floats:
        septa = np.exp(-((textures["fat"](p) / 0.12) ** 2))
        whole = contrast.of(FAT) * (1 + 0.03 * textures["muscle"](p))
        return np.asarray(whole - contrast.of(SEPTUM) * septa, dtype=np.float32)

    def inner_fat(p: Points, contrast: Contrast) -> Floats:
        return np.asarray(contrast.of(DEEP_FAT) * (1 + 0.04 * textures["fat"](p)), dtype=np.float32)

    def shell(p: Points) -> Floats:
        depth = skin.depth(p)
        return both(depth, -build.fat - 2 - depth)

    def inside(p: Points) -> Floats:
        return skin.depth(p) + build.fat

    def bowel(p: Points) -> Floats:
        return both(34 - p.v, 6 * (0.1 - textures["bowel"](p)))

    def content(p: Points, contrast: Contrast) -> Floats:
        varied = contrast.of(BOWEL_VARIES) * np.tanh(2 * textures["fat"](p))
        return np.asarray(contrast.of(BOWEL) + varied, dtype=np.float32)

    return [
        Layer("skin and subcutaneous fat", shell, [(0.0, SKIN), (1.2, fat)]),
        Layer("deep fat", inside, [(0.0, inner_fat)]),
        Layer("bowel", bowel, [(0.0, BOWEL_WALL), (1.5, content)], front=(32, np.inf)),
    ]


def _muscles(build: Build, textures: dict[str, Texture], skin: Skin) -> list[Layer]:
    def signal(p: Points, contrast: Contrast) -> Floats:
        fibres = textures["muscle"](p)
        streaks = np.clip(fibres - 1.7 + 5 * build.infiltration, 0, 1.2)
        muscle = contrast.of(MUSCLE) * (1 + 0.07 * fibres)
        return np.asarray(muscle + contrast.of(STREAK) * streaks, dtype=np.float32)

    def erector(p: Points) -> Floats:
        u = _along(p, [-60, -20, 10, 40, 80], [20, 26, 33, 36, 36])
        half = _along(p, [-60, -20, 10, 40, 80], [17, 24, 30, 33, 33])
        cross = superellipse(p.side - u, p.v + 53, half, 23.0, 2.6)
        # The fat cleft between multifidus and erector spinae.
        cleft = slab(p.side - 21 - 0.25 * (p.v + 52), 0.7)
        fascia = skin.depth(p) + build.fat + 2.2
        return both(cross, 4.2 - p.side, fascia, np.asarray(-np.maximum(cleft, p.v + 47), dtype=np.float32))

    def psoas(p: Points) -> Floats:
        stations = [-60.0, 0, 37, 75, 112]
        u, v = _along(p, stations, [60, 50, 44, 39, 35]), _along(p, stations, [36, 15, 1, -5, -8])
        a, b = _along(p, stations, [14, 17, 18, 15, 11]), _along(p, stations, [14, 17, 20, 18, 14])
        return ellipse(p.side - u, p.v - v, a, b)

    def quadratus(p: Points) -> Floats:
        return both(superellipse(p.side - 60, p.v + 24, 17.0, 10.0, 2.5), 18 - p.s)

    def pelvic(p: Points) -> Floats:
        # Iliacus inside and gluteal muscles outside the wing of the ilium.
        inner = rounded(
            [slab((p.side - 50) * 0.85 - (p.v + 6) * 0.5, 8.0), slab(p.v - 2, 26.0), p.s - 8], 4.0
        )
        outer = both(skin.depth(p) + build.fat, 77 + 0.59 * (p.v + 20) - p.side, p.s - 4, p.v)
        return np.minimum(inner, outer)

    def thoracolumbar(p: Points) -> Floats:
        return both(slab(skin.depth(p) + build.fat, 0.7), p.side - 70)

    bands: list[tuple[float, Value]] = [(0.0, MUSCLE_SURFACE), (0.7, signal)]
    return [
        Layer("pelvic muscles", pelvic, bands, along=(-np.inf, 20)),
        Layer("quadratus lumborum", quadratus, bands, side=(40, 80), front=(-36, -12)),
        Layer("psoas", psoas, bands, side=(20, 78), front=(-28, 52)),
        Layer("erector spinae", erector, bands, side=(2, 72), front=(-82, -24)),
        Layer("thoracolumbar fascia", thoracolumbar, [(0.0, FASCIA)]),
    ]


def _vessels() -> list[Layer]:
    def artery(p: Points) -> Floats:
        apart = np.clip((44 - p.s) / 60, 0, 1.2)  # the aorta divides at L4
        trunk = ellipse(p.u + 7, p.v - 28, 8.5, 8.5)
        v = p.v - 28 + 6 * apart
        right, left = ellipse(p.u - 30 * apart + 7, v, 5.6, 5.6), ellipse(p.u + 7 + 24 * apart, v, 5.6, 5.6)
        return np.where(p.s > 44, trunk, np.minimum(right, left)).astype(np.float32)

    def vein(p: Points) -> Floats:
        apart = np.clip((32 - p.s) / 60, 0, 1.0)  # the vena cava begins below, at L5
        trunk = ellipse(p.u - 13, p.v - 25, 10.5, 7.5)
        v = p.v - 25 + 5 * apart
        right, left = (
            ellipse(p.u - 13 - 18 * apart, v, 7.0, 5.5),
            ellipse(p.u - 13 + 40 * apart, v - 2, 8.0, 5.0),
        )
        return np.where(p.s > 32, trunk, np.minimum(right, left)).astype(np.float32)

    return [
        Layer("vena cava and iliac veins", vein, [(0.0, VESSEL_WALL), (0.9, VEIN)], side=(0, 48), front=(8, 40)),
        Layer("aorta and iliac arteries", artery, [(0.0, VESSEL_WALL), (1.2, ARTERY)], side=(0, 48), front=(8, 42)),
    ]


def _canal(build: Build, textures: dict[str, Texture]) -> list[Layer]:
    def fat(p: Points, contrast: Contrast) -> Floats:
        return np.asarray(0.95 * contrast.of(FAT) * (1 + 0.04 * textures["fat"](p)), dtype=np.float32)

    def epidural(p: Points) -> Floats:
        depth = _along(p, [-90, -60, -30, 0, 40], [2.5, 5.5, 7.5, 10.5, 10.5])
        return superellipse(
            p.u, p.v + 17 + depth, _along(p, [-90, -60, -30, 0, 40], [4, 9, 13, 15.0, 13.5]), depth, 2.2
        )

    def band(p: Points) -> Floats:
        # The ligament bridges the hollow behind the bodies: a thin dark line along the front of the canal.
        return both(slab(p.v + 15.8 - 0.006 * p.u**2, 0.35), p.side - 7)

    layers = [
        Layer("epidural fat", epidural, [(0.0, fat)], along=(-88, np.inf), side=(0, 17), front=(-40, -14)),
        Layer(
            "posterior longitudinal ligament",
            band,
            [(0.0, LIGAMENT)],
            along=(-50, 230),
            side=(0, 8),
            front=(-18, -14),
        ),
    ]
    for disc in build.lumbar:
        layers += [_foramen(disc), _flavum(disc), _interspinous(disc)]
    return layers


def _foramen(disc: Disc) -> Layer:
    def distance(p: Points) -> Floats:
        return rounded([slab(p.side - 21, 9.5), slab(p.v + 21.5, 5.5), slab(p.s - disc.s - 5, 10.0)], 4.0)

    return Layer(
        f"foramen {disc.name}", distance, [(0.0, FORAMINAL_FAT)], (disc.s - 8, disc.s + 18), (8, 33), (-30, -14)
    )


def _flavum(disc: Disc) -> Layer:
    def distance(p: Points) -> Floats:
        wall = (p.v + 38.8 - 0.66 * p.side) * 0.83
        return rounded([slab(wall, 1.5), slab(p.side, 15.5), slab(p.s - disc.s - 4, 12.0)], 1.0)

    return Layer(
        f"flavum {disc.name}", distance, [(0.0, FLAVUM)], (disc.s - 10, disc.s + 18), (0, 17), (-43, -24)
    )


def _interspinous(disc: Disc) -> Layer:
    def distance(p: Points) -> Floats:
        return rounded([slab(p.side, 1.6), slab(p.v + 52, 9.0), slab(p.s - disc.s - 2, 12.0)], 1.0)

    return Layer(
        f"interspinous {disc.name}", distance, [(0.0, INTERSPINOUS)], (disc.s - 12, disc.s + 16), (0, 3), (-62, -42)
    )


def root_course(disc: Disc, s: Floats) -> tuple[Floats, Floats]:
    """|u| and v in mm, at s, of the root that leaves below the vertebra under a disc."""
    stations = disc.s + _ROOT_PEDICLE + _ROOT_S
    u, v = np.interp(s, stations, _ROOT_U), np.interp(s, stations, _ROOT_V)
    return u.astype(np.float32), v.astype(np.float32)


def _root_layers(disc: Disc) -> list[Layer]:
    name, pedicle = f"below {disc.name}", disc.s + _ROOT_PEDICLE
    stations = pedicle + _ROOT_S

    def tube(p: Points) -> Floats:
        u, v = root_course(disc, p.s)
        a, b = p.side - u, p.v - v
        ganglion = 0.7 * np.exp(-(((p.s - pedicle + 14) / 5) ** 2))
        radius = ROOT_RADIUS * np.interp(p.s, stations[[0, 2, 6, 7]], [0.6, 1.0, 1.0, 0.7]) + ganglion
        # The tube leans against the planes of equal s, so it is cut as an ellipse there.
        return both(
            (np.sqrt(a * a + b * b) - radius).astype(np.float32), p.s - stations[-1], stations[0] - p.s
        )

    def sheath(p: Points) -> Floats:
        return tube(p) - 1.6

    reach = (float(stations[0]), float(stations[-1])), (0.0, 45.0), (-32.0, 8.0)
    return [
        Layer(
            f"fat around root {name}", sheath, [(0.0, PERINEURAL_FAT)], (pedicle - 26, pedicle - 5), (10, 28), (-28, -8)
        ),
        Layer(f"root {name}", tube, [(0.0, EPINEURIUM), (0.7, ROOT)], *reach),
    ]


def sac_depth(build: Build, p: Points) -> tuple[Floats, Floats]:
    """v of the middle of the thecal sac and half its depth in mm, at the height of points."""
    return _along(p, _SAC_S, _SAC_V), _along(p, _SAC_S, _SAC_DEPTH) * build.sac


def _neural(build: Build) -> list[Layer]:
    def middle(p: Points) -> Floats:
        return sac_depth(build, p)[0]

    def sac(p: Points) -> Floats:
        v, b = sac_depth(build, p)
        return both(superellipse(p.u, p.v - v, _along(p, _SAC_S, _SAC_WIDTH) * build.sac, b, 2.2), -64 - p.s)

    layers = [layer for disc in build.lumbar for layer in _root_layers(disc)]
    layers.append(
        Layer("thecal sac", sac, [(0.0, DURA), (0.4, CSF)], (-68, np.inf), (0, 14), (-37, -15), edge=0.7)
    )
    layers += [_strand(index, middle) for index in range(14)]
    layers.append(_cord(middle))
    return layers


def _strand(index: int, middle: Callable[[Points], Floats]) -> Layer:
    """One rootlet of the cauda equina; they lie in an arc at the back of the sac."""
    scatter = np.modf(np.array([0.618, 0.414, 0.732, 0.236]) * (index + 1))[0]
    angle = np.pi * (0.06 + 0.88 * (index + 0.6 * (scatter[0] - 0.5)) / 13)
    radius, lift = 0.55 + 0.3 * scatter[1], 0.6 + 0.3 * scatter[2]
    leaves = -50 + 105 * (abs(index - 6.5) / 6.5) ** 2  # outer rootlets leave higher than inner ones

    def distance(p: Points) -> Floats:
        reach = _along(p, [-60, 0, 75], [1.5, 6.0, 8.2])
        u = p.u - np.cos(angle) * reach - 0.7 * np.sin(p.s / 17 + 6 * scatter[3])
        v = p.v - middle(p) + lift * np.sin(angle) * 0.75 * reach - 0.3
        return np.asarray(np.sqrt(u * u + v * v) - radius, dtype=np.float32)

    return Layer(f"rootlet {index}", distance, [(0.0, ROOTLET)], (leaves, np.inf), (0, 10), (-36, -18), edge=0.7)


def _cord(middle: Callable[[Points], Floats]) -> Layer:
    """The conus medullaris, which ends at the first lumbar disc."""

    def distance(p: Points) -> Floats:
        size = _along(p, [136, 150, 175], [0.4, 3.4, 4.6])
        return ellipse(p.u, p.v - middle(p) + 1.0, size, 0.85 * size)

    return Layer("conus medullaris", distance, [(0.0, CORD_SURFACE), (1.5, CORD)], (138, np.inf), (0, 7), (-34, -18))
