"""What a data set shows: its settings, and camera and plane of each frame."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from .camera import Camera
from .clip import ClipPlane

if TYPE_CHECKING:
    from .tracer import PathTracer


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """What to render.

    The defaults are of the size that the training quality "quick" is made for; those of "ClipGS" (MICCAI 2025) are 1,000 and
    100 frames, axial planes, none uncut, and one distance.

    Attributes:
        train, test: frames.
        size: pixels, of a square image.
        samples, test_samples: paths per pixel. Test images are never denoised.
        planes: "axial": normal along superior, as in the paper; "any": every direction.
        denoise: run the training images through the denoiser.
        fov_degrees, zoom: of the farthest cameras, which lie on a sphere; at zoom 1 the volume's bounding sphere fills the
            image.
        nearest: zoom of the nearest cameras, as they look at one part after another; None: all are on that sphere.
        uncut: share of the training frames that show the whole volume.
        background: red, green, blue behind the volume, as displayed; images keep their alpha.
        format: "png" (8 bit) or "npy" (float16).
        seed: of cameras, planes and paths.
    """

    train: int = 300
    test: int = 30
    size: int = 256
    samples: int = 32
    test_samples: int = 256
    planes: str = "any"
    denoise: bool = False
    fov_degrees: float = 30.0
    zoom: float = 1.3
    nearest: float | None = 2.6
    uncut: float = 0.1
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    format: str = "png"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "background", tuple(float(x) for x in self.background))
        for condition, message in (
            (self.train >= 1 and self.test >= 0, "A data set needs at least one training frame."),
            (16 <= self.size <= 8192, f"Images must have 16 to 8192 pixels a side, got {self.size}."),
            (self.samples >= 1 and self.test_samples >= 1, "Images need at least one sample per pixel."),
            (self.planes in ("axial", "any"), f"Planes must be 'axial' or 'any', got {self.planes!r}."),
            (self.format in ("png", "npy"), f"The format must be 'png' or 'npy', got {self.format!r}."),
            (0.1 <= self.zoom <= 10, f"The zoom must be 0.1 to 10, got {self.zoom}."),
            (
                self.nearest is None or self.zoom <= self.nearest <= 20,
                f"The zoom of the nearest cameras must be {self.zoom:g} (that of the farthest) to 20, got {self.nearest}.",
            ),
            (0 <= self.uncut < 1, f"The share of uncut frames must be 0 or more and below 1, got {self.uncut}."),
            (
                len(self.background) == 3 and all(0 <= x <= 1 for x in self.background),
                "The background needs three numbers from 0 to 1.",
            ),
        ):
            if not condition:
                raise GaussianMRIError(message)


def draw_view(tracer: PathTracer, options: DatasetOptions, index: int) -> tuple[Camera, ClipPlane | None]:
    """Camera and plane of frame `index`: the view's direction is uniform on the sphere, and so is the normal of a plane
    with any direction; its offset is uniform over the extent of what can be seen along the normal. Distances are uniform in
    their logarithm; near cameras look at a point of the volume so far from its middle that it fills their picture.
    """
    generator = np.random.default_rng([options.seed, index])
    height, azimuth = generator.uniform(-1, 1), generator.uniform(-180, 180)
    normal = np.array([0.0, 0.0, 1.0])
    if options.planes == "any":
        normal = generator.normal(size=3)
        normal /= np.linalg.norm(normal)
    low, high = extent(tracer, normal)
    plane: ClipPlane | None = ClipPlane(normal, low + generator.uniform(0.05, 1.0) * (high - low))
    zoom, target = options.zoom, tracer.centre
    if options.nearest is not None:
        zoom *= (options.nearest / options.zoom) ** generator.uniform()
        away = generator.normal(size=3)
        away *= generator.uniform() ** (1 / 3) / np.linalg.norm(away)
        target += away * tracer.radius * (1 - options.zoom / zoom)
    if index < options.train and generator.uniform() < options.uncut:
        plane = None
    camera = tracer.camera(
        azimuth=azimuth,
        elevation=float(np.degrees(np.arcsin(height))),
        size=options.size,
        fov_degrees=options.fov_degrees,
        zoom=zoom,
        target=target,
    )
    return camera, plane


def seconds_needed(tracer: PathTracer, options: DatasetOptions, frames: int) -> float:
    """About how long so many frames will take: from three small ones of few samples.

    Args:
        frames: that are missing; as many of them are test frames as in the whole.
    """
    small = replace(options, size=min(options.size, 64))
    paths = 3 * 4 * small.size**2
    for index in range(4):
        if index == 1:  # kernels are built or loaded by the first one
            began = time.perf_counter()
        camera, plane = draw_view(tracer, small, index)
        tracer.render(camera, clips=clips_of(plane), samples=4)
    each = (time.perf_counter() - began) / paths
    tests = options.test_samples + options.samples  # beside the whole volume
    samples = (options.train * options.samples + options.test * tests) / (options.train + options.test)
    return float(each * samples * options.size**2 * frames)


def clips_of(plane: ClipPlane | None) -> list[ClipPlane]:
    return [] if plane is None else [plane]


def extent(tracer: PathTracer, normal: NDArray[np.float64]) -> tuple[float, float]:
    """Where along a direction what can be seen begins and ends, mm: of its box and its sphere the smaller."""
    box, middle = tracer.corners @ normal, float(tracer.centre @ normal)
    return max(float(box.min()), middle - tracer.radius), min(float(box.max()), middle + tracer.radius)
