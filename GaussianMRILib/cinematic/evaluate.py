"""Quality, speed and size of a model on frames it has not seen.

The columns are those of "ClipGS", tables 1 and 2, and what the mean over a picture hides: the volume alone, the cut face,
and light beyond the plane.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..device import wait_for
from ..errors import GaussianMRIError
from ..metrics import Lpips, psnr, ssim
from ..metrics.perceptual import SMALLEST
from .cut_face import CutFace
from .dataset import Frame
from .model import CinematicModel
from .train import channel_ssim

HEADER = (
    "method", "PSNR, dB", "on the volume, dB", "SSIM", "at the cut", "leak, %", "LPIPS", "time", "FPS", "storage",
)  # fmt: skip
COVERED, LEAST_COVERED = 0.1, 0.02
"""A pixel shows the volume from this alpha on; a frame counts from this part of such pixels on. What shows next to nothing
is right whatever the splats are: 50 dB, which then decide the mean and its spread."""
BAND = 0.02
"""The band at the cut reaches this part of the picture's longer side beyond the face, one pixel at least."""
LEAST_PIXELS = 0.01
"""Part of a picture that a cut face, or what a plane has removed, has to fill to be measured."""


class ColourLpips(Lpips):
    """LPIPS 0.1 (AlexNet) of colour images; not available without the trunk's weights, as in `metrics.Lpips`."""

    def __call__(
        self,
        image: NDArray[Any],
        truth: NDArray[Any],
        weight: NDArray[Any] | None = None,
        data_range: float = 1.0,
    ) -> float | None:
        """LPIPS of images (H, W, 3), whole; None when not available, or when they are too small for AlexNet."""
        if self._network is None or min(np.shape(image)[:2]) < SMALLEST:
            return None
        pair = np.stack([image, truth]).astype(np.float32) / np.float32(data_range)
        tensors = torch.from_numpy(pair.clip(0, 1) * 2 - 1).permute(0, 3, 1, 2)
        with torch.no_grad():
            self._network.spatial = False
            return float(self._network(tensors[:1], tensors[1:]))


@dataclass(frozen=True)
class ModelScore:
    """How a model does on held-out frames.

    Attributes:
        psnr, ssim: dB and -, of each frame, colours in 0..1.
        covered_psnr: dB, of the pixels alone that show the volume (`COVERED`) in the true frame.
        band_ssim: SSIM at the cut, its mean over `face_band`; None for frames that show no cut face.
        leak: %, of the light that a plane has taken away, what the model still draws (`leaked_light`); None for frames
            without an uncut view, or with too little taken away.
        lpips: of each frame; None where the trunk's weights are not there.
        seconds: to render each frame, a new plane each time.
        training_s: seconds of training.
        storage: bytes of the model's files.
        splats: number.
        size: pixels, width and height.
    """

    psnr: list[float]
    ssim: list[float]
    covered_psnr: list[float]
    band_ssim: list[float | None]
    leak: list[float | None]
    lpips: list[float] | None
    seconds: list[float]
    training_s: float | None
    storage: int | None
    splats: int
    size: tuple[int, int]

    @property
    def frames_per_second(self) -> float:
        """By the median time."""
        return 1 / statistics.median(self.seconds)

    def row(self, name: str) -> list[str]:
        """A row under `HEADER`: mean and standard deviation over frames."""
        minutes = None if self.training_s is None else self.training_s / 60
        return [
            name,
            spread(self.psnr, 2),
            spread(self.covered_psnr, 2),
            spread(self.ssim, 4),
            spread(self.band_ssim, 3),
            spread(self.leak, 2),
            spread(self.lpips or (), 4),
            "-" if minutes is None else f"{minutes:.1f} min",
            f"{self.frames_per_second:.1f}",
            "-" if self.storage is None else f"{self.storage / 1e6:.1f} MB",
        ]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: means beside the values of each frame."""
        means = {}
        for name in ("psnr", "ssim", "covered_psnr", "band_ssim", "leak", "lpips"):
            known = [value for value in getattr(self, name) or () if value is not None]
            means[f"{name}_mean"] = statistics.fmean(known) if known else None
        return {
            **means,
            "frames_per_second": self.frames_per_second,
            **asdict(self),
        }


def spread(values: Sequence[float | None], digits: int) -> str:
    """Mean and standard deviation of what was measured, as text."""
    known = [value for value in values if value is not None]
    if not known:
        return "not available"
    deviation = statistics.stdev(known) if len(known) > 1 else 0.0
    return f"{statistics.fmean(known):.{digits}f} ± {deviation:.{digits}f}"


def face_band(frame: Frame, face: CutFace) -> NDArray[np.bool_] | None:
    """(H, W): where a picture shows the plane's cut face, and as far beyond as `BAND` says.

    The face is where the volume's voxels behind the plane are opaque to more than half, seen from the side that is cut away.
    None where less than `LEAST_PIXELS` of the picture show it. XClipGS (arXiv 2608.07760) has a band SSIM as well; how its
    band is drawn is ours.
    """
    from scipy import ndimage

    camera, plane = frame.camera, frame.plane
    if plane is None or plane.signed_distance(camera.eye) <= 0:
        return None
    shape, device = (camera.height, camera.width), face.volume.values.device
    painted = [torch.zeros(size, device=device, dtype=torch.float32) for size in ((*shape, 3), shape, shape)]
    face.paint(*painted, camera=camera, plane=plane)
    alpha, depth = (tensor.cpu().numpy() for tensor in painted[1:])
    rays = camera.rays()
    axis = camera.world_to_camera[2, :3]
    places = camera.eye + rays * (depth / (rays @ axis))[..., None]
    # The border of the volume has faces as well; depths are of 32 bits.
    on_plane = np.abs(plane.signed_distance(places)) < 1e-4 * max(1.0, float(depth.max()))
    shown = (alpha > 0.5) & on_plane
    if shown.mean() < LEAST_PIXELS:
        return None
    reach = max(1, round(BAND * max(shape)))
    return np.asarray(ndimage.distance_transform_edt(~shown) <= reach)


def _banded_ssim(image: NDArray[np.float32], truth: NDArray[np.float32], band: NDArray[np.bool_]) -> float:
    """Mean over the colours of the SSIM of images (H, W, 3), in the pixels of `band` (H, W)."""
    channels = [ssim(image[..., c], truth[..., c], weight=band, data_range=1.0) for c in range(3)]
    return statistics.fmean(channels)


def leaked_light(image: NDArray[np.float32], frame: Frame) -> float | None:
    """Light beyond the plane, % of the light that the plane has taken away: 100 for a model that does not heed the plane.

    Sums of absolute differences from the background over the pixels that show nothing in the true frame (alpha 0), but the
    volume without the plane (`COVERED`); None where these are less than `LEAST_PIXELS` of the picture. It sees what sticks
    out beyond the outline of what is kept, not what lies in front of it. The leak of XClipGS (arXiv 2608.07760) is the
    energy on the side that is cut away as well, in a norm of its own.
    """
    if frame.uncut is None:
        return None
    removed = (frame.alpha() == 0) & (frame.uncut.alpha() >= COVERED)
    if removed.mean() < LEAST_PIXELS:
        return None
    background = np.asarray(frame.background, dtype=np.float32)
    light = np.abs(frame.uncut.image()[removed] - background).sum()
    return float(100 * np.abs(image[removed] - background).sum() / max(float(light), 1e-6))


def evaluate_model(
    model: CinematicModel,
    frames: Sequence[Frame],
    *,
    face: CutFace | None = None,
    storage: int | None = None,
    lpips: Lpips | None = None,
    progress: Callable[[float], object] | None = None,
) -> ModelScore:
    """Render the frames and compare them with their pictures; those whose plane has left next to nothing are not judged.

    Args:
        frames: with cameras, planes and pictures; those of `CinematicDataset.test`, say.
        face: `CinematicDataset.face()`, which knows where a picture shows the cut; without it that is not measured.
        storage: bytes of the model's files.
        lpips: default: `ColourLpips()`.
        progress: called with the fraction done.

    Raises:
        GaussianMRIError: no frames, none that shows the volume in `LEAST_COVERED` of its pixels, or a picture of another
            size than its camera's.
    """
    if not frames:
        raise GaussianMRIError(
            "There are no frames to evaluate the model on; make a data set with test frames."
        )
    metric = lpips or ColourLpips()
    fidelity, structure, covered_fidelity, perceptual, seconds = [], [], [], [], []
    at_cut: list[float | None] = []
    leak: list[float | None] = []
    device = model.splats.means.device
    model.render(frames[0].camera, frames[0].plane)  # loading and compiling kernels is not rendering
    for number, frame in enumerate(frames):
        truth = np.asarray(frame.image(), dtype=np.float32)
        covered = frame.alpha() >= COVERED
        if covered.mean() < LEAST_COVERED:
            continue
        wait_for(device)
        started = time.perf_counter()
        image = model.render(frame.camera, frame.plane).image.clamp(0, 1)
        wait_for(device)
        seconds.append(time.perf_counter() - started)
        shown = image.cpu().numpy()
        for picture in (frame, frame.uncut):
            if picture is not None and picture.alpha().shape != shown.shape[:2]:
                sizes = [" x ".join(map(str, size[1::-1])) for size in (picture.alpha().shape, shown.shape)]
                raise GaussianMRIError(
                    f"Picture {picture.name} is {sizes[0]} pixels, its camera has {sizes[1]}. Make the data set again."
                )
        fidelity.append(psnr(shown, truth, data_range=1.0))
        structure.append(float(channel_ssim(image, torch.from_numpy(truth).to(device))))
        covered_fidelity.append(psnr(shown[covered], truth[covered], data_range=1.0))
        band = None if face is None else face_band(frame, face)
        at_cut.append(None if band is None else _banded_ssim(shown, truth, band))
        leak.append(leaked_light(shown, frame))
        perceptual.append(metric(shown, truth))
        if progress is not None:
            progress((number + 1) / len(frames))
    if not fidelity:
        raise GaussianMRIError(
            f"No test frame shows the volume in {LEAST_COVERED:.0%} of its pixels; make a data set with other planes."
        )
    known = [value for value in perceptual if value is not None]
    camera = frames[0].camera
    return ModelScore(
        fidelity,
        structure,
        covered_fidelity,
        at_cut,
        leak,
        known if len(known) == len(fidelity) else None,
        seconds,
        model.facts.get("training_s"),
        storage,
        len(model),
        (camera.width, camera.height),
    )
