"""Films of a model: a camera that goes round it, and a plane that sweeps through it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write
from ..geometry import unit_vector
from .camera import Camera
from .clip import ClipPlane, Cutting
from .model import CinematicModel

Shot = tuple[Camera, Cutting]
RAYS = 3  # a side of a pixel of cut faces


def turntable(
    center: ArrayLike,
    distance: float,
    count: int,
    *,
    plane: Cutting = None,
    elevation_degrees: float = 10.0,
    start_degrees: float = 0.0,
    fov_degrees: float = 30.0,
    size: int | tuple[int, int] = 512,
) -> list[Shot]:
    """`count` cameras around the patient's long axis, evenly over a full turn; at 0 degrees they look at the front.

    Args:
        center: (3,) RAS mm, what the cameras look at.
        distance: mm.
        plane: the same cut for all, by one plane or by several.
        elevation_degrees: above the axial plane.
        start_degrees: from the front towards the patient's left.

    Raises:
        GaussianMRIError: no frames, or a distance, field of view or size that no camera has.
    """
    if count < 1:
        raise GaussianMRIError("An animation needs at least one frame.")
    view: dict[str, Any] = {"elevation": elevation_degrees, "fov_degrees": fov_degrees, "size": size}
    azimuths = [start_degrees + 360 * n / count for n in range(count)]
    return [(Camera.around(center, distance, azimuth=azimuth, **view), plane) for azimuth in azimuths]


def clip_sweep(
    camera: Camera, normal: ArrayLike, *, lowest: float, highest: float, count: int, back: bool = True
) -> list[Shot]:
    """One camera, and planes of one direction whose offsets go from `highest` to `lowest` (mm along `normal`), and back.

    Args:
        normal: (3,) RAS; what lies beyond the plane in this direction is cut away.
        back: return the way it came, so that the film can be repeated without a jump.
    """
    if count < 2:
        raise GaussianMRIError("A sweep needs at least two frames.")
    n = np.arange(count)
    part = 0.5 - 0.5 * np.cos(2 * np.pi * n / count) if back else n / (count - 1)
    direction = unit_vector(normal, what="sweep's normal")
    return [(camera, ClipPlane(direction, highest + (lowest - highest) * p)) for p in part]


def render_shots(
    model: CinematicModel, shots: Sequence[Shot], *, progress: Callable[[float], object] | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Pictures (H, W, 3) of the shots, one after the other."""
    for number, (camera, plane) in enumerate(shots):
        yield to_bytes(model.render(camera, plane, side=RAYS).image.cpu().numpy())
        if progress is not None:
            progress((number + 1) / len(shots))


def to_bytes(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """8-bit picture of an image in 0..1 as displayed."""
    return np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)


def write_picture(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> Path:
    """Write a picture (H, W, 3 or 4) as PNG.

    Raises:
        GaussianMRIError: another suffix, or the file cannot be written.
    """
    from PIL import Image

    target = Path(path)
    if target.suffix.lower() != ".png":
        raise GaussianMRIError(f"{target} must end in .png.")
    with atomic_write(target) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    return target


def write_frames(folder: str | os.PathLike[str], pictures: Iterable[NDArray[np.uint8]]) -> list[Path]:
    """Write pictures as frame-0000.png, frame-0001.png, ... into `folder`, which is made where it is not there.

    Frames of that name which it has are those of another film, and go when the first of this one is there.

    Raises:
        GaussianMRIError: the folder or a file cannot be made, or a frame of before not removed.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GaussianMRIError(f"{target} cannot be made: {error.strerror or error}.") from error
    written = []
    for n, picture in enumerate(pictures):
        for old in target.glob("frame-*.png") if n == 0 else ():
            if re.fullmatch(r"frame-\d{4,}\.png", old.name):
                try:
                    old.unlink()
                except OSError as error:
                    raise GaussianMRIError(
                        f"{old} is in the way and cannot be removed: {error.strerror or error}. Choose another folder."
                    ) from error
        written.append(write_picture(target / f"frame-{n:04d}.png", picture))
    return written


def write_film(
    path: str | os.PathLike[str], pictures: Iterable[NDArray[np.uint8]], *, rate: float = 25.0
) -> Path:
    """Write pictures (H, W, 3) as an H.264 film, PATH.mp4, with the ffmpeg that is installed.

    Raises:
        GaussianMRIError: there is no ffmpeg, no picture, or it fails; a half film is not left behind.
    """
    target = Path(path)
    if target.suffix.lower() != ".mp4":
        raise GaussianMRIError(f"{target} must end in .mp4.")
    program = shutil.which("ffmpeg")
    if program is None:
        raise GaussianMRIError(
            "A film needs ffmpeg, which is not installed here; write PNG files to a folder instead."
        )
    frames = iter(pictures)
    first = next(frames, None)
    if first is None:
        raise GaussianMRIError("A film needs at least one picture.")
    height, width = first.shape[:2]
    with atomic_write(target) as temporary:
        command = [
            program, "-loglevel", "error", "-y", "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size",
            f"{width}x{height}", "-framerate", str(rate), "-i", "-", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2",
            "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(temporary),
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdin is not None and process.stderr is not None
        try:
            process.stdin.write(first.tobytes())
            for picture in frames:
                process.stdin.write(picture.tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass  # its message says why it has gone
        except BaseException:
            process.kill()
            process.wait()
            raise
        message = process.stderr.read().decode(errors="replace").strip()
        process.stderr.close()
        if process.wait():
            raise GaussianMRIError(f"ffmpeg could not write {target}: {message or 'no reason given'}.")
    return target
