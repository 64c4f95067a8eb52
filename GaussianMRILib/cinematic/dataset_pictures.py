"""Files of the pictures in a data set: colours that are not multiplied by alpha, as PNG or as numbers of 16 bits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write, finite, reading, save_array
from .camera import Camera

if TYPE_CHECKING:
    from .tracer import Render

_LOG = logging.getLogger("GaussianMRI")


def straight(render: Render) -> NDArray[np.float32]:
    """(H, W, 4) 0..1: displayed colours, not multiplied by alpha, and alpha; from an image over black."""
    alpha = render.alpha[..., None]
    colour = render.image / np.maximum(alpha, 1e-6)
    return np.concatenate([np.clip(colour, 0, 1), alpha], axis=-1).astype(np.float32)


def write_picture(path: Path, render: Render) -> None:
    pixels = straight(render)
    with atomic_write(path) as partial:
        if path.suffix == ".npy":
            save_array(partial, pixels.astype(np.float16))
        else:
            from PIL import Image

            Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(partial)


def read_picture(path: Path) -> NDArray[np.float32]:
    hint = "Delete it and make the data set again with the same settings; only what is missing is rendered."
    with reading(path, "a picture of a data set", hint):
        if path.suffix == ".npy":
            with open(path, "rb") as file:
                pixels = np.lib.format.read_array(file, allow_pickle=False, max_header_size=10_000)
        else:
            from PIL import Image

            with Image.open(path) as picture:
                if picture.mode not in ("RGB", "RGBA"):
                    raise ValueError(f"it is a picture of the kind {picture.mode}")
                Camera.check_size(*picture.size)
                pixels = np.asarray(picture, dtype=np.float32) / 255
        if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype.kind != "f":
            raise ValueError(f"it has {pixels.dtype} {pixels.shape}")
        pixels = np.asarray(finite(pixels, (None, None, None), "picture", 1e4), np.float32)
    return pixels


def is_complete(path: Path) -> bool:
    """Whether a picture is there and whole."""
    if not path.is_file():
        return False
    try:
        read_picture(path)
    except GaussianMRIError:
        _LOG.warning("%s is broken and is rendered again.", path)
        return False
    return True
