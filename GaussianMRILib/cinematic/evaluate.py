"""Quality, speed and size of a model on frames it has not seen: the columns of "ClipGS", tables 1 and 2."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..metrics import Lpips, psnr
from ..metrics.perceptual import SMALLEST
from .dataset import Frame
from .model import CinematicModel
from .train import channel_ssim

HEADER = ("method", "PSNR", "SSIM", "LPIPS", "time", "FPS", "storage")


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
        lpips: of each frame; None where the trunk's weights are not there.
        seconds: to render each frame, a new plane each time.
        training_s: seconds of training.
        storage: bytes of the model's files.
        splats: number.
        size: pixels, width and height.
    """

    psnr: list[float]
    ssim: list[float]
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
            _spread(self.psnr, 2),
            _spread(self.ssim, 4),
            "not available" if self.lpips is None else _spread(self.lpips, 4),
            "-" if minutes is None else f"{minutes:.1f} min",
            f"{self.frames_per_second:.1f}",
            "-" if self.storage is None else f"{self.storage / 1e6:.1f} MB",
        ]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: means beside the values of each frame."""
        return {
            "psnr_mean": float(np.mean(self.psnr)),
            "ssim_mean": float(np.mean(self.ssim)),
            "lpips_mean": None if self.lpips is None else float(np.mean(self.lpips)),
            "frames_per_second": self.frames_per_second,
            **asdict(self),
        }


def _spread(values: Sequence[float], digits: int) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ± {deviation:.{digits}f}"


def evaluate_model(
    model: CinematicModel,
    frames: Sequence[Frame],
    *,
    storage: int | None = None,
    lpips: Lpips | None = None,
    progress: Callable[[float], object] | None = None,
) -> ModelScore:
    """Render the frames and compare them with their pictures; those whose plane has left nothing are not judged.

    Args:
        frames: with cameras, planes and pictures; those of `CinematicDataset.test`, say.
        storage: bytes of the model's files.
        lpips: default: `ColourLpips()`.
        progress: called with the fraction done.

    Raises:
        GaussianMRIError: no frames, none that shows anything, or a picture of another size than its camera's.
    """
    if not frames:
        raise GaussianMRIError(
            "There are no frames to evaluate the model on; make a data set with test frames."
        )
    metric = lpips or ColourLpips()
    fidelity, structure, perceptual, seconds = [], [], [], []
    device = model.splats.means.device
    model.render(frames[0].camera, frames[0].plane)  # loading and compiling kernels is not rendering
    for number, frame in enumerate(frames):
        truth = np.asarray(frame.image(), dtype=np.float32)
        if not np.ptp(truth, axis=(0, 1)).any():
            continue
        _wait(device)
        started = time.perf_counter()
        image = model.render(frame.camera, frame.plane).image.clamp(0, 1)
        _wait(device)
        seconds.append(time.perf_counter() - started)
        shown = image.cpu().numpy()
        if shown.shape != truth.shape:
            raise GaussianMRIError(
                f"Picture {frame.name} is {truth.shape[1::-1]} pixels, its camera has {shown.shape[1::-1]}."
            )
        fidelity.append(psnr(shown, truth, data_range=1.0))
        structure.append(float(channel_ssim(image, torch.from_numpy(truth).to(device))))
        perceptual.append(metric(shown, truth))
        if progress is not None:
            progress((number + 1) / len(frames))
    if not fidelity:
        raise GaussianMRIError("No test frame shows anything; make a data set with other planes.")
    known = [value for value in perceptual if value is not None]
    camera = frames[0].camera
    return ModelScore(
        fidelity,
        structure,
        known if len(known) == len(fidelity) else None,
        seconds,
        model.facts.get("training_s"),
        storage,
        len(model),
        (camera.width, camera.height),
    )


def _wait(device: torch.device) -> None:
    """CUDA works behind our back; the clock must not stop before it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
