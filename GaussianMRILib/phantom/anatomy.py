"""A procedural lumbar spine, T2- or T1-weighted: signal as a continuous function of position.

Shapes are implicit functions in the frame of the spine (`frame.py`), so any acquisition samples the same
body. The anatomy (disc half-axes 25 x 17 mm, superellipse exponent 2.3, anterior height 12.4 and posterior 6
mm at L5-S1, sac half-axes 8 x 5.5 mm, roots of 2.9 mm radius at 10 and 22 mm, flavum 3 mm) and the relative
signals (`tissues.py`) are those of a middle-aged adult.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import ImagePlane
from .bones import bone_layers
from .build import LEVELS, Build, Disc
from .frame import Floats, Points, SpineFrame, rotation
from .layers import Layer, Painting, Texture
from .soft import Skin, soft_layers
from .tissues import OIL, T2, Contrast

CAPSULE_RADIUS = 4.5  # mm
_CHUNK = 16384  # points painted at once: stays in the processor's cache


class Phantom:
    """A lumbar spine with known signal everywhere.

    Args:
        seed: draws the individual: tilt of the L5-S1 disc (20 to 42 degrees), heights and hydration of the
            discs, size of the sac, fat, and how the patient lies in the scanner.

    Example:
        >>> phantom = Phantom(seed=0)
        >>> plane = phantom.disc_plane("L5-S1")
        >>> truth = phantom.intensity(plane.points())
        >>> truth.shape == plane.shape
        True
    """

    def __init__(self, seed: int = 0) -> None:
        generator = np.random.default_rng([seed, 0x5F1E])
        self.seed = seed
        self.tilt = float(generator.uniform(20, 42))
        bend = generator.uniform(0.85, 1.15, size=4)
        offsets = [
            -46 * bend[0],
            -16,
            -1.0,
            5.0,
            7 * bend[0],
            3,
            0,
            -16 * bend[1],
            -26 * bend[2],
            -33 * bend[3],
            -37,
            -36,
        ]
        stations = [-105, -75, -55, -38, -22, -14, 0, 36, 74, 112, 150, 200]
        pose = rotation(*generator.uniform([-2, -4, -3], [2, 4, 3]))
        self.frame = SpineFrame(
            stations, self.tilt + np.array(offsets), pose, generator.uniform(-4, 4, size=3)
        )
        self.build = _draw_build(generator)
        textures = {
            "marrow": Texture(generator, (3.0, 3.0, 3.6), waves=8),
            "fat": Texture(generator, (9.0, 7.0, 8.0), waves=5),
            "muscle": Texture(generator, (6.0, 6.0, 34.0), waves=8),
            "bowel": Texture(generator, (26.0, 22.0, 30.0)),
        }
        self._skin = Skin(self.build.fat)
        self._painting = Painting(self._layers(textures))
        #: RAS (3,) mm of a capsule of fish oil taped to the skin left of the midline, as a check of
        #: orientation.
        self.capsule = self._place_capsule()

    def _layers(self, textures: dict[str, Texture]) -> list[Layer]:
        """The tissues in the order of painting."""
        return [
            *soft_layers(self.build, textures, self._skin, "background"),
            *bone_layers(self.build, textures),
            *soft_layers(self.build, textures, self._skin, "canal"),
            *bone_layers(self.build, textures, part="facets"),
            *soft_layers(self.build, textures, self._skin, "neural"),
        ]

    def intensity(self, points_ras: ArrayLike, *, contrast: Contrast = T2) -> Floats:
        """Signal (...) at RAS points (..., 3) in mm: relative signal times the coil's sensitivity.

        0 is air; beside the coil cerebrospinal fluid is about 1 in T2, and fat 0.75 in both contrasts.

        Args:
            points_ras: places.
            contrast: `tissues.T2` or `tissues.T1`.
        """
        points = np.asarray(points_ras, dtype=np.float64)
        flat = points.reshape(-1, 3)
        image = np.empty(len(flat), dtype=np.float32)
        for first in range(0, len(flat), _CHUNK):
            image[first : first + _CHUNK] = self._chunk(flat[first : first + _CHUNK], contrast)
        return image.reshape(points.shape[:-1])

    def _chunk(self, ras: NDArray[np.float64], contrast: Contrast) -> Floats:
        points = self.frame.points(ras)
        image = np.zeros(len(ras), dtype=np.float32)
        self._painting.paint(image, points, contrast)
        distance = np.linalg.norm(ras - self.capsule, axis=1).astype(np.float32)
        image += np.clip(0.5 - (distance - CAPSULE_RADIUS) / 0.8, 0, 1) * (contrast.of(OIL) - image)
        return image * self._sensitivity(points)

    def _place_capsule(self) -> NDArray[np.float64]:
        x, z = -20.0, 22.0
        y = np.linspace(-160, -40, 1201)
        points = self.frame.points(
            self.frame.from_patient(np.stack([np.full_like(y, x), y, np.full_like(y, z)], axis=1))
        )
        surface = float(np.interp(0.0, -self._skin.depth(points), y))
        return self.frame.from_patient([x, surface - CAPSULE_RADIUS, z])

    def _sensitivity(self, points: Points) -> Floats:
        """A surface coil under the back: weaker towards the front and towards its ends."""
        depth = points.y + 60
        along = points.z - 25
        # A saturation band in front of the large vessels keeps the moving bowel dark, as in clinical
        # protocols.
        band = 0.16 + 0.84 / (1 + np.exp((points.v - 43) / 3.5))
        return np.asarray(1.15 * np.exp(-depth / 190 - (along / 190) ** 2) * band, dtype=np.float32)

    def disc_plane(
        self,
        level: str = "L5-S1",
        *,
        spacing: tuple[float, float] = (0.5, 0.5),
        shape: tuple[int, int] = (192, 224),
        thickness: float = 0.0,
    ) -> ImagePlane:
        """The plane through the middle of a disc and the canal behind it.

        Columns run to the patient's left and rows backwards, as on any axial image; the normal points
        upwards.
        """
        s = self.build.disc(level).s
        right, front, _ = self.frame.axes(s).T
        return ImagePlane.from_axes(
            self.frame.to_ras(0, -22, s), -right, -front, spacing=spacing, shape=shape, thickness=thickness
        )

    def landmark(self, name: str) -> NDArray[np.float64]:
        """RAS (3,) in mm of "capsule", or of "disc", "sac", "left root" or "right root" at the L5-S1 disc.

        The roots are the L5 roots, which leave beside that disc.
        """
        places = {
            "disc": (0, 0, 0),
            "sac": (0, -26.5, 0),
            "left root": (-22, -14, 0),
            "right root": (22, -14, 0),
        }
        return self.capsule if name == "capsule" else self.frame.to_ras(*places[name])


def _draw_build(generator: np.random.Generator) -> Build:
    height = generator.uniform(0.94, 1.06)
    hydration = generator.uniform([0.22, 0.28, 0.36, 0.42, 0.45, 0.45], [0.46, 0.52, 0.6, 0.6, 0.6, 0.6])
    shrink = 0.75 + 0.25 * (hydration - 0.2) / 0.4  # dry discs are flat
    discs = [
        Disc("S3-S4", -84.0, 1.5, 0.0, 10.0, 6.0, 0.25),
        Disc("S2-S3", -61.0, 2.0, 0.2, 13.0, 8.0, 0.25),
        Disc("S1-S2", -34.0, 3.5, 0.5, 18.0, 11.0, 0.25),
    ]
    middle, wedge = (9.2, 10.5, 10.2, 9.6, 8.8, 8.0), (6.4, 4.0, 3.0, 2.4, 1.8, 1.2)
    width, depth = (25.0, 24.5, 23.8, 23.0, 22.0, 21.0), (17.0, 17.0, 16.6, 16.2, 15.8, 15.4)
    for n, name in enumerate(LEVELS):
        full = middle[n] * (1.0 if name == "L5-S1" else float(shrink[n]))
        discs.append(Disc(name, n * 37.0 * height, full, wedge[n], width[n], depth[n], float(hydration[n])))
    return Build(
        discs=tuple(discs),
        sac=float(generator.uniform(0.95, 1.1)),
        fat=float(generator.uniform(14, 24)),
        infiltration=float(generator.uniform(0.04, 0.2)),
    )
