"""LPIPS (Zhang et al., CVPR 2018) with the AlexNet trunk, from weights that the user has; never invented."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GaussianMRIError
from .fidelity import _prepare

if TYPE_CHECKING:
    import torch

TRUNK_VARIABLE = "GAUSSIANMRI_LPIPS_TRUNK"
TRUNK_FILE = "alexnet-owt-7be5be79.pth"  # torchvision's ImageNet AlexNet
TRUNK_HASHES = ("7be5be79", "4df8aa71")  # first digits of the SHA-256; the older file holds the same weights
SMALLEST = 31  # pixels; less does not survive AlexNet's strides
_logger = logging.getLogger("GaussianMRI")


class Lpips:
    """LPIPS 0.1 (AlexNet) of grey images.

    Args:
        trunk: file of torchvision's AlexNet weights; default: the environment variable
            GAUSSIANMRI_LPIPS_TRUNK, else alexnet-owt-7be5be79.pth in torch's hub cache. Nothing is ever
            downloaded.
        verify: refuse a file whose checksum is not that of torchvision's weights, whose values alone are
            LPIPS.

    Attributes:
        available: whether values can be computed.
        reason: why not, in words; '' when available.
    """

    def __init__(self, *, trunk: str | os.PathLike[str] | None = None, verify: bool = True) -> None:
        self.reason = ""
        self._network: Any = None
        try:
            self._network = _load(_find_trunk(trunk), verify)
        except GaussianMRIError as error:
            self.reason = str(error)
            _logger.info("LPIPS is not available: %s", self.reason)

    @property
    def available(self) -> bool:
        return self._network is not None

    def __call__(
        self, image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None, data_range: float = 1.0
    ) -> float | None:
        """LPIPS of two images (rows, columns), 0 = alike; None when not available.

        Intensities are clipped to [0, data_range]. Pixels that are NaN in either are black in both and not
        counted. With a weight or NaN it is the weighted mean of the spatial map, else the plain definition.

        Raises:
            GaussianMRIError: shapes differ, nothing valid, or an image side shorter than 31 pixels.
        """
        import torch

        if self._network is None:
            return None
        image, truth, weights = _prepare(image, truth, weight)
        if image.ndim != 2 or min(image.shape) < SMALLEST:
            raise GaussianMRIError(
                f"LPIPS needs images of at least {SMALLEST} x {SMALLEST} pixels, got {image.shape}."
            )
        pair = np.where(weights > 0, np.stack([image, truth]), 0.0)
        pair = np.clip(pair / data_range, 0, 1).astype(np.float32) * 2 - 1
        tensors = torch.from_numpy(pair)[:, None, None].expand(2, 1, 3, *image.shape)
        with torch.no_grad():
            self._network.spatial = bool(weight is not None or (weights == 0).any())
            values = self._network(tensors[0], tensors[1])[0, 0].double().numpy()
        if values.size == 1:
            return float(values.item())
        return float((values * weights).sum() / weights.sum())


def lpips(
    image: np.ndarray,
    truth: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    data_range: float = 1.0,
    trunk: str | os.PathLike[str] | None = None,
) -> float | None:
    """`Lpips(trunk)(image, truth, weight, data_range)`, keeping the network; None when not available."""
    return _cached(str(_find_trunk(trunk) or ""))(image, truth, weight, data_range)


@functools.lru_cache(maxsize=2)
def _cached(trunk: str) -> Lpips:
    return Lpips(trunk=trunk or None)


def _find_trunk(trunk: str | os.PathLike[str] | None) -> Path | None:
    chosen = trunk or os.environ.get(TRUNK_VARIABLE)
    if chosen:
        return Path(chosen)
    import torch

    cached = Path(torch.hub.get_dir()) / "checkpoints" / TRUNK_FILE
    return cached if cached.exists() else None


def _load(trunk: Path | None, verify: bool) -> torch.nn.Module:
    import torch

    if trunk is None:
        raise GaussianMRIError(
            f"the AlexNet weights are not on this computer. Save torchvision's {TRUNK_FILE} and name it in "
            f"the environment variable {TRUNK_VARIABLE}."
        )
    if not trunk.is_file():
        raise GaussianMRIError(f"{trunk} is not a file; name torchvision's {TRUNK_FILE}.")
    if verify and not hashlib.sha256(trunk.read_bytes()).hexdigest().startswith(TRUNK_HASHES):
        raise GaussianMRIError(f"{trunk} is not torchvision's {TRUNK_FILE}: its checksum differs.")
    package = _import_lpips()
    # A random trunk first: `lpips` would otherwise download one.
    network: Any = package.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    try:
        weights = torch.load(trunk, map_location="cpu", weights_only=True)
        for name, parameter in network.net.named_parameters():  # 'slice2.3.weight' is 'features.3.weight'
            with torch.no_grad():
                source = weights["features." + name.split(".", 1)[1]]
                if source.shape != parameter.shape:
                    raise ValueError(f"{name} has shape {tuple(source.shape)}")
                parameter.copy_(source)
    except Exception as error:
        raise GaussianMRIError(f"{trunk} does not hold torchvision's AlexNet weights ({error}).") from error
    evaluating: torch.nn.Module = network.float().eval()
    return evaluating


def _import_lpips() -> types.ModuleType:
    """The lpips package, which imports torchvision only to build AlexNet; lend it one where there is none."""
    if importlib.util.find_spec("lpips") is None:
        raise GaussianMRIError(
            "the package lpips is not installed; install lpips 0.1.4 (pip install --no-deps lpips)."
        )
    if "lpips" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return importlib.import_module("lpips")
    stand_in = types.ModuleType("torchvision")
    stand_in.models = types.ModuleType("torchvision.models")  # type: ignore[attr-defined]
    stand_in.models.alexnet = _alexnet
    names = {"torchvision": stand_in, "torchvision.models": stand_in.models}
    sys.modules.update(names)
    try:
        return importlib.import_module("lpips")
    except ImportError as error:
        raise GaussianMRIError(f"the package lpips cannot be imported ({error}).") from error
    finally:
        for name in names:  # other packages must not take the stand-in for torchvision
            del sys.modules[name]


def _alexnet(pretrained: bool = False) -> types.SimpleNamespace:
    """AlexNet's convolutions (Krizhevsky 2014, 'one weird trick'), layers numbered as in torchvision."""
    from torch import nn

    if pretrained:
        raise GaussianMRIError("AlexNet weights come from a file, not from a download.")
    return types.SimpleNamespace(
        features=nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
    )
