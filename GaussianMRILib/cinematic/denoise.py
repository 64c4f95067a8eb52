"""Denoising of path-traced images with Intel's Open Image Denoise, where the package `pyoidn` is installed."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np

from ..errors import GaussianMRIError
from .tracer import Render, tone_map


def available() -> bool:
    """Whether the denoiser is installed."""
    return importlib.util.find_spec("pyoidn") is not None


def require() -> None:
    """Raise a GaussianMRIError unless the denoiser is installed."""
    if not available():
        raise GaussianMRIError(
            "Denoising needs Open Image Denoise: run `pip install pyoidn`, or render without denoising and with more "
            "samples."
        )


def denoise(render: Render, exposure: float = 1.0) -> Render:
    """The image without its noise, guided by its albedo and normals; alpha and depth stay as they are.

    Args:
        render: over black.
        exposure: of the preset it was rendered with.

    Raises:
        GaussianMRIError: the denoiser is not installed, or failed.
    """
    require()
    import pyoidn

    alpha = render.alpha[..., None]
    # What the denoiser sees is opaque: edges of the volume are edges of its black background.
    colour, albedo, normal = (
        np.ascontiguousarray(x * alpha, dtype=np.float32)
        for x in (render.radiance, render.albedo, render.normal)
    )
    try:
        clean = pyoidn.denoise(colour, albedo=albedo, normal=normal, hdr=True)
    except RuntimeError as error:
        raise GaussianMRIError(f"The denoiser failed: {error}. Render without it.") from error
    radiance = np.maximum(np.asarray(clean), 0) / np.maximum(alpha, 1e-3)
    image = tone_map(radiance, exposure) * alpha
    return dataclasses.replace(render, image=image.astype(np.float32), radiance=radiance.astype(np.float32))
