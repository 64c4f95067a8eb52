"""Volumetric path tracing of a volume, cut open by planes: the images that a splat model learns from."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import check_affine
from ..interruption import checkpoint
from .camera import Camera, half_angle
from .clip import ClipPlane, Roi
from .looks import Look
from .tracer_volume import TracerVolume, prepare, srgb_to_linear

if TYPE_CHECKING:
    import torch

__all__ = ["PathTracer", "Render", "srgb_to_linear", "tone_map"]

_LOG = logging.getLogger("GaussianMRI")
#: Seconds that a pass takes at most, about. A GPU's are short, because displays watch how long a kernel runs: after two
#: seconds Windows ends it.
_PASS_SECONDS, _GPU_PASS_SECONDS = 2.0, 0.25
#: Paths of the longest pass before it is known how long they take.
_FIRST_PATHS = 1 << 22
Image = NDArray[np.float32]


def tone_map(radiance: ArrayLike, exposure: float = 1.0) -> Image:
    """Radiance (..., 3) as displayed, 0..1: 1 - exp(-exposure x) per colour, then sRGB's curve.

    White needs no more than x = 1.8 to be white, a highlight never clips, and hues stay.
    """
    x = 1.0 - np.exp(-np.maximum(np.asarray(radiance, dtype=np.float32) * np.float32(exposure), 0))
    shown: Image = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-8) ** (1 / 2.4) - 0.055)
    return shown.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Render:
    """A path-traced image.

    Attributes:
        image: (H, W, 3) 0..1 as displayed (`tone_map`), over the background.
        alpha: (H, W) 0..1, part of the samples that met the volume.
        depth: (H, W) mm along the camera's z, mean of the first collisions; 0 where there is none.
        radiance: (H, W, 3) linear, mean over the samples that met the volume.
        albedo, normal: (H, W, 3) of the first collisions, means (linear; RAS, unit where all agree).
        noise: (H, W) standard error of the radiance's mean over the colours (as if samples were independent).
        samples: per pixel.
    """

    image: Image
    alpha: Image
    depth: Image
    _: KW_ONLY
    radiance: Image
    albedo: Image
    normal: Image
    noise: Image
    samples: int

    def over(self, background: Sequence[float]) -> Image:
        """The image (H, W, 3) over another background, made from one over black."""
        return self.image + (1 - self.alpha[..., None]) * np.asarray(background, dtype=np.float32)


class PathTracer:
    """Renders one volume with one look; cutting planes and camera change freely.

    Light scattering in a heterogeneous medium by delta tracking, surfaces where the gradient is strong (after Kroes et
    al. 2012, "Exposure Render"), square lights and a dome, crisp shaded cut faces; csrc/paths/math.h.

    Args:
        volume: (K, J, I), any real dtype; what is not finite is the smallest value.
        ijk_to_ras: (4, 4) mm.
        look: transfer functions, surfaces and light.
        roi: box outside which nothing is shown (`clip.Roi`).
        device: "cpu", or "cuda" for a GPU ("cuda:1" for the second one).

    Raises:
        GaussianMRIError: the volume has fewer than two voxels along an axis, the transfer function shows nothing of it,
            or the region is empty.

    Example:
        >>> tracer = PathTracer(volume, ijk_to_ras, find_look("CT bone"))            # doctest: +SKIP
        >>> cut = ClipPlane.from_point(tracer.centre, (0, 0, 1))                      # doctest: +SKIP
        >>> tracer.render(tracer.camera(azimuth=30), clips=[cut], samples=64).image   # doctest: +SKIP
    """

    def __init__(
        self,
        volume: ArrayLike,
        ijk_to_ras: ArrayLike,
        look: Look,
        *,
        roi: Roi | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        affine = check_affine(ijk_to_ras, what="the volume's ijk_to_ras")
        values = np.asarray(volume)
        if values.ndim != 3 or min(values.shape) < 2 or values.dtype.kind not in "biuf":
            raise GaussianMRIError(
                f"A volume needs three axes of two voxels or more of real numbers, got {values.shape}."
            )
        self.look = look.fitted(values)
        self.device = device
        self._volume: TracerVolume = prepare(values, affine, self.look, roi, device)

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) RAS mm: the middle of what can be seen."""
        return self._volume.centre.copy()

    @property
    def radius(self) -> float:
        """mm: of the sphere round `centre` that holds all that can be seen."""
        return self._volume.radius

    @property
    def corners(self) -> NDArray[np.float64]:
        """(8, 3) RAS mm: of the box of what can be seen, in the volume's axes."""
        return self._volume.corners()

    def camera(
        self,
        *,
        azimuth: float = 0.0,
        elevation: float = 0.0,
        size: int | tuple[int, int] = 512,
        fov_degrees: float = 30.0,
        zoom: float = 1.0,
        target: ArrayLike | None = None,
    ) -> Camera:
        """A camera on a sphere round the volume (`Camera.around`) that sees all of it at zoom 1.

        Args:
            azimuth: degrees from the patient's front towards the patient's left.
            elevation: degrees upwards.
            size: pixels: one number for a square, or (width, height).
            fov_degrees: vertical field of view.
            target: (3,) RAS mm that it looks at, the middle of its sphere; default: the volume's.

        Raises:
            GaussianMRIError: a size, field of view or zoom that no camera has.
        """
        if not 0 < zoom < math.inf:
            raise GaussianMRIError(f"The zoom must be above 0, got {zoom}.")
        distance = self.radius / math.sin(half_angle(fov_degrees, size)) / zoom
        middle = self.centre if target is None else target
        return Camera.around(
            middle, distance, azimuth=azimuth, elevation=elevation, fov_degrees=fov_degrees, size=size
        )

    def render(
        self,
        camera: Camera,
        *,
        clips: Sequence[ClipPlane] = (),
        samples: int = 64,
        seed: int = 0,
        background: Sequence[float] = (0.0, 0.0, 0.0),
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Render:
        """The image after `samples` paths per pixel.

        The same arguments give the same image, bit for bit, whatever the number of threads and of passes.

        Args:
            clips: planes, as `clip.combined` makes them cut together; at most eighteen, six fewer with a region.
            background: red, green, blue, as displayed.
            progress: called with samples done and wanted, some times a second.
            cancelled: asked between passes; when it says yes the image so far is returned.

        Raises:
            GaussianMRIError: no samples, or too many planes.
        """
        for sums, done in self._passes(camera, clips, samples, seed):  # noqa: B007  the last one counts
            if progress is not None:
                progress(done, samples)
            if cancelled is not None and cancelled():
                break
        return self.resolve(sums, done, background=background)

    def progressive(
        self,
        camera: Camera,
        *,
        clips: Sequence[ClipPlane] = (),
        samples: int = 64,
        seed: int = 0,
        background: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> Iterator[Render]:
        """The image after one sample, and after ever larger passes up to `samples`; see `render`."""
        for sums, done in self._passes(camera, clips, samples, seed):
            yield self.resolve(sums, done, background=background)

    def blank(self, camera: Camera) -> torch.Tensor:
        """(H, W, n) sums without any sample yet, for `add_samples`."""
        import torch

        from ..native.paths.arguments import SUMS

        return torch.zeros(camera.height, camera.width, SUMS, device=self.device, dtype=torch.float32)

    def add_samples(
        self,
        sums: torch.Tensor,
        camera: Camera,
        clips: Sequence[ClipPlane],
        *,
        first: int,
        count: int,
        seed: int = 0,
        rows: tuple[int, int] | None = None,
    ) -> None:
        """Add `count` paths per pixel, from number `first` on, to the sums of a view (`blank`).

        Args:
            rows: first and end of the rows that get them, where the whole picture takes too long to be called off; such
                bands have random numbers of their own.
        """
        import torch

        from ..native.paths import operators  # noqa: F401  registers them

        checkpoint()
        low, high = rows or (0, camera.height)
        part = camera if rows is None else replace(camera, cy=camera.cy - low, height=high - low)
        scene = self._volume.scene(part, clips, self.look)
        shuffled = (seed + low * 0x9E3779B1) & 0x7FFFFFFF
        torch.ops.gaussianmri.trace_(sums[low:high], scene, *self._volume.tensors(), shuffled, first, count)

    def _passes(
        self, camera: Camera, clips: Sequence[ClipPlane], samples: int, seed: int
    ) -> Iterator[tuple[torch.Tensor, int]]:
        """The kernel's sums, and the samples in them, after each pass."""
        from ..device import wait_for

        if samples < 1:
            raise GaussianMRIError(f"An image needs at least one sample per pixel, got {samples}.")
        sums = self.blank(camera)
        pixels = camera.height * camera.width
        # The first passes are short, so that something is there at once and a cancel is heard.
        longest = max(1, _FIRST_PATHS // pixels)
        gpu = sums.device.type == "cuda"
        done = 0
        while done < samples:
            count = min(max(done, 1), longest, samples - done)
            begun = time.monotonic()
            self.add_samples(sums, camera, clips, first=done, count=count, seed=seed)
            wait_for(sums.device)
            done += count
            # Of dense volumes each sample takes long, and a signal waits for the pass. A GPU's first pass says little of the
            # next ones: it loads the kernel.
            seconds = max(time.monotonic() - begun, 1e-6)
            fits = int(count * (_GPU_PASS_SECONDS if gpu else _PASS_SECONDS) / seconds)
            longest = max(1, min(2 * count if gpu else longest, fits))
            yield sums, done

    def resolve(self, sums: torch.Tensor, samples: int, *, background: Sequence[float] = (0.0, 0.0, 0.0)) -> Render:
        """The image that sums with `samples` paths per pixel are."""
        total = sums.cpu().numpy()
        hits = total[..., 3:4]
        each = np.maximum(hits, 1)
        radiance = total[..., :3] / each
        alpha = hits[..., 0] / samples
        shown = tone_map(radiance, self.look.exposure)
        behind = np.asarray(background, dtype=np.float32)
        mean = total[..., :3].mean(axis=-1) / samples
        spread = np.maximum(total[..., 11] / samples - mean**2, 0)
        return Render(
            image=(shown * alpha[..., None] + behind * (1 - alpha[..., None])).astype(np.float32),
            alpha=alpha.astype(np.float32),
            depth=(total[..., 10] / each[..., 0]).astype(np.float32),
            radiance=radiance.astype(np.float32),
            albedo=(total[..., 4:7] / each).astype(np.float32),
            normal=(total[..., 7:10] / each).astype(np.float32),
            noise=np.sqrt(spread / max(samples - 1, 1)).astype(np.float32),
            samples=samples,
        )
