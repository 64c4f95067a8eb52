"""GaussianMRI: fit 3D Gaussians to thick-slice MRI and render any oblique plane of it.

Example:
    >>> import GaussianMRILib as gm
    >>> stacks = gm.read_stacks("folder-of-dicom")                       # doctest: +SKIP
    >>> field = gm.fit(stacks)                                           # doctest: +SKIP
    >>> plane = gm.ImagePlane.from_axes((0, 0, 0), (-1, 0, 0), (0, -0.9, -0.3))  # doctest: +SKIP
    >>> image = field.render(plane)                                      # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

# Importing the package must cost nothing (it runs when Slicer starts): names are resolved at first use.
_HOMES = {
    "GaussianMRIError": "errors",
    "ImagePlane": "geometry",
    "Curve": "geometry",
    "SliceStack": "stacks",
    "read_stacks": "stacks",
    "check_same_frame": "stacks",
    "GaussianField": "gaussians",
    "StraightField": "gaussians",
    "straighten": "gaussians",
    "fit": "fitting",
    "Fitter": "fitting",
    "linear_interpolation": "baselines",
    "voxel_interpolation": "baselines",
    "spline_interpolation": "baselines",
    "superresolution": "baselines",
    "psnr": "metrics",
    "ssim": "metrics",
    "lpips": "metrics",
    "gaussian_weight_mask": "metrics",
    "write_volume": "writers",
    "write_dicom_series": "writers",
    "write_png": "writers",
}
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from .baselines import linear_interpolation, spline_interpolation, superresolution, voxel_interpolation
    from .errors import GaussianMRIError
    from .fitting import Fitter, fit
    from .gaussians import GaussianField, StraightField, straighten
    from .geometry import Curve, ImagePlane
    from .metrics import gaussian_weight_mask, lpips, psnr, ssim
    from .stacks import SliceStack, check_same_frame, read_stacks
    from .writers import write_dicom_series, write_png, write_volume


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module("." + _HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
