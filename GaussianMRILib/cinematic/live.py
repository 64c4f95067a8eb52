"""A path-traced picture that is there at once and gets better while nothing moves, beside an event loop."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import check_affine
from .camera import Camera
from .clip import ClipPlane, Roi
from .denoise import available, blurred, denoise
from .looks import Look
from .picture import check_volume
from .tracer import Image, PathTracer

if TYPE_CHECKING:
    import torch

    from .model import CinematicModel

#: Voxels that are prepared before the first picture; of a larger volume the first pictures show every n-th voxel.
FIRST_VOXELS = 1_000_000
#: Paths per pixel of a picture that is drawn while something moves.
MOVING_SAMPLES = 2
#: Seconds without a movement after which the picture is refined.
REST = 0.15
#: Seconds that a band of rows takes, during which a movement waits.
BAND = 0.04
#: Samples over which the picture of the movement fades into the refined one.
FADE = 8
_SMALLEST = 24  # pixels a side


@dataclass
class _Refinement:
    """A picture in the making: `done` samples in every pixel, `count` more in the rows above `row`."""

    generation: int
    camera: Camera
    clips: tuple[ClipPlane, ...]
    base: Image
    tracer: PathTracer
    sums: torch.Tensor
    done: int = 0
    row: int = 0
    count: int = 1


class LivePicture:
    """What a view is to show of a volume: coarse while camera or planes move, better and better while they rest.

    `look` belongs to the event loop: it returns a picture within `budget` seconds, whose resolution follows from the
    measured time of a path. `refine` belongs to another thread, which calls it again and again; each call is a short
    piece of work, and the next movement ends it. The refined picture fades in, so that nothing jumps. With a model, its
    splats are the picture of the movement.

    Args:
        volume: (K, J, I), any real dtype; it is read until `ready`.
        ijk_to_ras: (4, 4) mm.
        look: transfer functions, surfaces and light.
        roi: box outside which nothing is shown (`clip.Roi`).
        samples: paths per pixel of the finished picture.
        budget: seconds for a picture while something moves.
        model: splats of the same volume and look.
        denoised: None: where the denoiser is installed.
        device: "cpu", or "cuda" for a GPU ("cuda:1" for the second one).

    Attributes:
        version: rises with every new picture.
        samples: of the finished picture.
        seconds: that the last picture of a movement took.

    Raises:
        GaussianMRIError: nothing to see of the volume, or the model shows another place.

    Example:
        >>> live = LivePicture(volume, ijk_to_ras, find_look("CT bone"))             # doctest: +SKIP
        >>> live.look(live.camera())                                                 # doctest: +SKIP
        >>> while live.refine():                                                     # doctest: +SKIP
        ...     show(live.picture())
    """

    def __init__(
        self,
        volume: ArrayLike,
        ijk_to_ras: ArrayLike,
        look: Look,
        *,
        roi: Roi | None = None,
        samples: int = 64,
        budget: float = 0.05,
        model: CinematicModel | None = None,
        denoised: bool | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        values = check_volume(volume)
        affine = check_affine(ijk_to_ras, what="the volume's ijk_to_ras")
        self.samples, self.budget, self.model = max(1, samples), budget, model
        self.version = 0
        self.seconds = 0.0
        self._denoised = available() if denoised is None else denoised
        self._whole: tuple[Any, ...] | None = (values, affine, look.fitted(values), roi, device)
        strides = _strides(values.shape, affine)
        if max(strides) > 1:
            try:
                self._tracer = _thinned(strides, *self._whole)
            except GaussianMRIError:  # what is seen may lie between the voxels that were taken
                strides = [1, 1, 1]
        if max(strides) == 1:
            self._tracer = PathTracer(values, affine, look, roi=roi, device=device)
            self._whole = None
        self._check_model()
        self._cost = self._band_cost = 2e-6  # seconds of a path
        self._state, self._kernel = threading.Lock(), threading.Lock()
        self._generation = 0
        self._moved, self._woken = -math.inf, threading.Event()
        self._view: tuple[Camera, tuple[ClipPlane, ...]] | None = None
        self._picture: Image | None = None
        self._base: Image | None = None
        self._refinement: _Refinement | None = None
        self._nothing = False
        self._done = 0

    @property
    def ready(self) -> bool:
        """Whether the whole volume is shown, not every n-th voxel of it."""
        return self._whole is None

    @property
    def done(self) -> int:
        """Paths per pixel of the present picture; 0 while something moves."""
        return self._done

    @property
    def finished(self) -> bool:
        return self._done >= self.samples

    @property
    def nothing(self) -> bool:
        """Whether the last movement's picture shows nothing of the volume."""
        return self._nothing

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) RAS mm: the middle of what can be seen."""
        return self._tracer.centre

    @property
    def radius(self) -> float:
        """mm: of the sphere round `centre` that holds all that can be seen."""
        return self._tracer.radius

    def camera(self, **options: Any) -> Camera:
        """`PathTracer.camera`."""
        return self._tracer.camera(**options)

    def picture(self) -> Image | None:
        """The newest picture (H, W, 3), 0..1 as displayed, over black; fewer pixels than the camera has while moving."""
        return self._picture

    def look(self, camera: Camera, *, clips: Sequence[ClipPlane] = ()) -> Image:
        """The picture at once, from another place or under other planes.

        Args:
            clips: planes, as `clip.combined` makes them cut together; at most eighteen, six fewer with a region. Splats
                do not know the type "intersection": under such planes the movement is path-traced as well.
        """
        planes = tuple(clips)
        started = time.perf_counter()
        with self._state:
            self._generation += 1  # ends the refinement at its next band
        with self._kernel:
            base = self._moving(camera, planes)
            with self._state:
                self._view, self._base, self._picture, self._refinement = (camera, planes), base, base, None
                self._moved, self._done = time.monotonic(), 0
                self.version += 1
        self.seconds = time.perf_counter() - started
        self._woken.set()
        return base

    def refine(self, *, patience: float = 0.1) -> bool:
        """One short piece of work, or a wait of `patience` seconds; whether the picture can still become better.

        Raises:
            GaussianMRIError: the whole volume cannot be prepared, or the work was called off (`interruption`).
        """
        with self._state:
            view, rest = self._view, self._moved + REST - time.monotonic()
            waits = view is None or (self.finished and self.ready)
            if waits:
                self._woken.clear()
        if waits:
            self._woken.wait(patience)
            return view is None
        if not self.ready:
            self._prepare()
        elif rest > 0:
            time.sleep(min(rest, patience))
        else:
            self._add_band()
        return not self.finished

    def _prepare(self) -> None:
        assert self._whole is not None
        values, affine, look, roi, device = self._whole
        whole = PathTracer(values, affine, look, roi=roi, device=device)
        with self._kernel, self._state:
            self._tracer, self._whole = whole, None
            self._generation += 1

    def _moving(self, camera: Camera, clips: tuple[ClipPlane, ...]) -> Image:
        """The picture of a movement: splats, or a few paths for each of fewer pixels."""
        if self.model is not None and self.model.takes(clips):
            # Over black, as the path tracer's.
            drawn = self.model.render(camera, clips, background=(0.0, 0.0, 0.0))
            self._nothing = not bool(drawn.alpha.any())
            return np.asarray(drawn.image.clamp(0, 1).cpu().numpy(), dtype=np.float32)
        pixels = self.budget / (self._cost * MOVING_SAMPLES)
        shrink = min(1.0, math.sqrt(pixels / (camera.width * camera.height)))
        sides = (max(min(n, _SMALLEST), round(n * shrink)) for n in (camera.width, camera.height))
        small = camera.resized(*sides)
        started = time.perf_counter()
        sums = self._tracer.blank(small)
        self._tracer.add_samples(sums, small, clips, first=0, count=MOVING_SAMPLES)
        render = self._tracer.resolve(sums, MOVING_SAMPLES)
        image = (denoise if self._denoised else blurred)(render, self._tracer.look.exposure).image
        cost = (time.perf_counter() - started) / (small.width * small.height * MOVING_SAMPLES)
        self._cost = (self._cost + cost) / 2
        self._nothing = not bool(sums[..., 3].any())
        return image

    def _add_band(self) -> None:
        """More samples for some rows; after the last of them a new picture."""
        from ..device import wait_for

        with self._kernel:
            with self._state:
                now = self._refinement
                if now is None or now.generation != self._generation:
                    assert self._view is not None and self._base is not None
                    camera, clips = self._view
                    base = _enlarged(self._base, camera)
                    sums = self._tracer.blank(camera)
                    now = _Refinement(self._generation, camera, clips, base, self._tracer, sums)
                    self._refinement = now
            camera = now.camera
            rows = max(8, int(BAND / (self._band_cost * camera.width * now.count)) // 8 * 8)
            end = min(camera.height, now.row + rows)
            started = time.perf_counter()
            now.tracer.add_samples(
                now.sums, camera, now.clips, first=now.done, count=now.count, rows=(now.row, end)
            )
            wait_for(now.tracer.device)
            cost = (time.perf_counter() - started) / ((end - now.row) * camera.width * now.count)
            self._band_cost = (self._band_cost + cost) / 2
            now.row = end
        if now.row == camera.height:
            now.done, now.row = now.done + now.count, 0
            # Each denoising takes as long as some samples, and noise halves with four times as many only.
            more = now.done if self._denoised else 1 if now.done < FADE else now.done // 4
            now.count = max(1, min(more, self.samples - now.done))
            self._publish(now)

    def _publish(self, now: _Refinement) -> None:
        render = now.tracer.resolve(now.sums, now.done)
        image = denoise(render, now.tracer.look.exposure).image if self._denoised else render.image
        share = np.float32(min(1.0, now.done / min(FADE, self.samples)))
        if share < 1:
            image = image * share + now.base * (1 - share)
        with self._state:
            if now.generation == self._generation:
                self._picture, self._done = image, now.done
                self.version += 1

    def _check_model(self) -> None:
        if self.model is None:
            return
        away = float(np.linalg.norm(self.centre - self.model.center))
        if away > 0.5 * self.radius or not 0.3 < self.model.unit / self.radius < 3:
            raise GaussianMRIError(
                f"The model shows another place than the volume: its middle is {away:.0f} mm away. Choose the volume "
                "that it was made from."
            )


def _strides(shape: Sequence[int], affine: NDArray[np.float64]) -> list[int]:
    """Along i, j and k every how many voxels are taken first: about as far apart along each axis."""
    sizes, spacings = list(shape[::-1]), np.linalg.norm(affine[:3, :3], axis=0)
    strides = [1, 1, 1]
    while math.prod(-(-n // s) for n, s in zip(sizes, strides, strict=True)) > FIRST_VOXELS:
        candidates = [a for a in range(3) if sizes[a] >= 4 * (strides[a] + 1)]
        if not candidates:
            break
        strides[min(candidates, key=lambda a: strides[a] * spacings[a])] += 1
    return strides


def _thinned(
    strides: Sequence[int],
    values: NDArray[Any],
    affine: NDArray[np.float64],
    look: Look,
    roi: Roi | None,
    device: str | torch.device,
) -> PathTracer:
    """The tracer of few voxels, in the look of all of them: what that counts in voxels stays the same in mm."""
    i, j, k = strides
    spacings = np.linalg.norm(affine[:3, :3], axis=0)
    before, after = float(spacings.mean()), float((spacings * [i, j, k]).mean())
    gradient = look.transfer.gradient_opacity * [after / before, 1.0]
    transfer = dataclasses.replace(
        look.transfer, gradient_opacity=gradient, unit_distance=look.transfer.unit_distance or before
    )
    look = dataclasses.replace(look, transfer=transfer)
    return PathTracer(values[::k, ::j, ::i], affine @ np.diag([i, j, k, 1.0]), look, roi=roi, device=device)


def _enlarged(image: Image, camera: Camera) -> Image:
    """The picture with the camera's pixels, as a view enlarges it: linear between pixels."""
    import torch
    from torch.nn.functional import interpolate

    if image.shape[:2] == (camera.height, camera.width):
        return image
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    enlarged = interpolate(planes, size=(camera.height, camera.width), mode="bilinear", align_corners=False)
    return np.ascontiguousarray(enlarged[0].permute(1, 2, 0).numpy())
