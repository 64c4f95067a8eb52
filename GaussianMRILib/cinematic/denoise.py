"""Path-traced images without their noise: Intel's Open Image Denoise (package `pyoidn`), or a blur of the light alone."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
from numpy.typing import NDArray

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
        exposure: of the look it was rendered with.

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


def blurred(render: Render, exposure: float = 1.0, *, light: float = 1.5, colour: float = 0.7) -> Render:
    """The image with the light on its surfaces blurred, which has most of the noise, and their colours hardly.

    For a coarse picture of something that moves, where there is no denoiser.

    Args:
        render: over black.
        exposure: of the look it was rendered with.
        light, colour: standard deviations, pixels.
    """
    from scipy.ndimage import gaussian_filter

    def blur(image: NDArray[np.float32], width: float) -> NDArray[np.float32]:
        return np.asarray(gaussian_filter(image, (width, width, 0), truncate=3.0), dtype=np.float32)

    seen = render.alpha[..., None]
    alpha = blur(seen, colour)
    albedo = blur(render.albedo * seen, colour) / np.maximum(alpha, 1e-3)
    lit = blur(render.radiance * seen, light) / np.maximum(blur(render.albedo * seen, light), 1e-3)
    radiance = np.asarray(albedo * lit, dtype=np.float32)
    return dataclasses.replace(render, image=tone_map(radiance, exposure) * alpha, radiance=radiance, alpha=alpha[..., 0])
