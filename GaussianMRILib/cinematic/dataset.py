"""Data sets of path-traced images with cameras and cutting planes, in the layout of NeRF's transforms JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write, finite, read_arrays, read_json, reading
from ..geometry import check_affine
from ..geometry.affine import LARGEST_POSITION_MM
from .camera import Camera
from .clip import ClipPlane, Roi, box_corners, box_to_ras
from .dataset_pictures import is_complete, read_picture, write_picture
from .dataset_views import DatasetOptions, clips_of, draw_view, extent, seconds_needed
from .looks import Look

if TYPE_CHECKING:
    import torch

    from ..stacks import SliceStack
    from .cut_face import CutFace
    from .tracer import PathTracer

_LOG = logging.getLogger("GaussianMRI")
SETTINGS, POINTS, FACE = "dataset.json", "points.npz", "face.npz"
SPLITS = ("train", "test")
#: NeRF's cameras look along -z with y up, ours along +z with y down.
_AGAIN = "Make the data set again."
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a data set.

    Attributes:
        camera: where it was taken from.
        plane: what it was cut with; None for the whole volume.
        split: "train" or "test".
        name: of its file, relative to the data set's folder.
        source: its file, or the picture itself: (H, W, 3), or (H, W, 4) with straight alpha; 0..1.
        background: what `image` puts behind it.
        uncut: of a test frame the same view of the whole volume; None where the data set has none.
    """

    camera: Camera
    plane: ClipPlane | None
    split: str
    name: str
    source: Path | NDArray[np.floating[Any]]
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    uncut: Frame | None = None

    def image(self) -> NDArray[np.float32]:
        """(H, W, 3) 0..1 as displayed, over the background.

        Raises:
            GaussianMRIError: the file is missing or broken.
        """
        pixels = self.pixels()
        if pixels.shape[2] == 3:
            return pixels
        alpha = pixels[..., 3:]
        behind = np.asarray(self.background, dtype=np.float32) * (1 - alpha)
        return (pixels[..., :3] * alpha + behind).astype(np.float32)

    def alpha(self) -> NDArray[np.float32]:
        """(H, W) 0..1, the part of the light that meets the volume; of a picture without alpha 1 where it is not background.

        Errors as `image`.
        """
        pixels = self.pixels()
        if pixels.shape[2] == 4:
            return pixels[..., 3]
        shown = np.abs(pixels - np.asarray(self.background, dtype=np.float32)).max(axis=2)
        return (shown > 2 / 255).astype(np.float32)

    def pixels(self) -> NDArray[np.float32]:
        """(H, W, 3 or 4) 0..1, colours not multiplied by alpha; errors as `image`."""
        return read_picture(self.source) if isinstance(self.source, Path) else self.source.astype(np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class CinematicDataset:
    """Frames with what a model needs to know about them.

    Attributes:
        folder: where it lies.
        frames: all of them.
        bounds: (2, 3) RAS mm: box round what can be seen.
        background: red, green, blue, as displayed.
        fingerprint: changes with the volume, the look and the options.
        facts: further facts for people.
    """

    folder: Path
    frames: tuple[Frame, ...]
    bounds: NDArray[np.float64]
    background: tuple[float, float, float]
    fingerprint: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def train(self) -> tuple[Frame, ...]:
        """Training frames."""
        return tuple(frame for frame in self.frames if frame.split == "train")

    @property
    def test(self) -> tuple[Frame, ...]:
        """Held-out frames."""
        return tuple(frame for frame in self.frames if frame.split == "test")

    def points(self, least: int) -> dict[str, NDArray[np.float32]]:
        """Points of the volume and their colours (`start.sample_points`), at least so many.

        Raises:
            GaussianMRIError: the data set has none, or fewer.
        """
        path = self.folder / POINTS
        hint = (
            "Make the data set again with the same settings (its pictures stay), or start the training from random splats."
        )
        with reading(path, "a file of points", hint):
            stored = read_arrays(path)
            points = finite(stored["points"], (None, 3), "points", LARGEST_POSITION_MM)
            colours = finite(stored["colours"], (len(points), 3), "colours of the points", 1e6)
            cloud = {"points": points.astype(np.float32), "colours": colours.astype(np.float32)}
        if len(cloud["points"]) < least:
            raise GaussianMRIError(
                f"{path} has {len(cloud['points'])} points for {least} splats. Start with fewer splats, or from random ones."
            )
        return cloud

    def face(self, *, device: Any = "cpu") -> CutFace | None:
        """Cut faces of the volume; None where the data set has none."""
        from .cut_face import CutFace

        path = self.folder / FACE
        return CutFace.load(path, device=device) if path.is_file() else None


def regular_volume(stack: SliceStack) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels (K, J, I) and ijk_to_ras (4, 4) of a stack whose slices lie on a regular grid.

    Raises:
        GaussianMRIError: they do not, or there is one slice only.
    """
    matrix = stack.grid()
    if matrix is None or stack.shape[0] < 2:
        raise GaussianMRIError(
            f"The slices of {stack.name or 'the scan'} are not a regular volume of two slices or more. Resample it first."
        )
    return np.asarray(stack.pixels, dtype=np.float32), matrix


# ---- what is rendered --------------------------------------------------------------------------------------


def make_dataset(
    folder: str | os.PathLike[str],
    volume: ArrayLike,
    ijk_to_ras: ArrayLike,
    *,
    look: Look,
    options: DatasetOptions | None = None,
    roi: Roi | None = None,
    device: str | torch.device = "cpu",
    estimated: Callable[[float, int], None] | None = None,
    progress: Callable[[int, int, Path], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CinematicDataset | None:
    """Render the frames of a data set; one that was stopped, killed or met a full disk goes on where it was.

    The folder gets `images/` (of a test frame the uncut view as well, with `samples` paths), `points.npz`
    (`start.sample_points`), `face.npz` (`CutFace`), `transforms_train.json` and `transforms_test.json` (written last:
    without them the set is not complete), and `dataset.json` with the settings.

    Args:
        volume, ijk_to_ras, look, roi, device: as for `PathTracer`.
        estimated: called before the first frame with the seconds that the missing ones will take, about, and how many
            are there.
        progress: called after each frame with frames done, frames in all, and the picture's file.
        cancelled: asked before each frame; when it says yes, None is returned.

    Raises:
        GaussianMRIError: the folder holds a data set with other settings, cannot be written, or the disk is full; or
            the tracer refuses the volume.
    """
    from .cut_face import CutFace
    from .denoise import denoise, require
    from .start import sample_points
    from .tracer import PathTracer

    options = options or DatasetOptions()
    if options.denoise:
        require()
    target = Path(folder)
    matrix = check_affine(ijk_to_ras, what="the volume's ijk_to_ras")
    tracer = PathTracer(volume, matrix, look, roi=roi, device=device)
    settings = _settings(np.asarray(volume), matrix, look, options, tracer, roi)
    _claim(target, settings)
    if not (target / POINTS).is_file():
        cloud = sample_points(tracer, seed=options.seed)
        with atomic_write(target / POINTS) as partial, partial.open("wb") as file:
            np.savez(file, **cloud)  # type: ignore[arg-type]
    if not (target / FACE).is_file():
        CutFace.of(tracer).save(target / FACE)
    total = options.train + options.test
    paths = [target / _picture_name(options, index) for index in range(total)]
    # Light that a model draws beyond a plane is known from what the plane has removed; nothing learns from that picture.
    uncut_paths = [None] * options.train + [path.with_stem(f"{path.stem}_uncut") for path in paths[options.train :]]
    there = {path for path in (*paths, *uncut_paths) if path is not None and is_complete(path)}
    if estimated is not None:
        done = sum(path in there for path in paths)
        estimated(seconds_needed(tracer, options, total - done) if done < total else 0.0, done)
    entries: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for index, (path, uncut) in enumerate(zip(paths, uncut_paths, strict=True)):
        split = "train" if index < options.train else "test"
        camera, plane = draw_view(tracer, options, index)
        seed = (options.seed * 7919 + index) & 0x7FFFFFFF
        for picture, clips in ((path, clips_of(plane)), (uncut, [])):
            if picture is None or picture in there:
                continue
            if cancelled is not None and cancelled():
                return None
            samples = options.test_samples if split == "test" and clips else options.samples
            render = tracer.render(camera, clips=clips, samples=samples, seed=seed)
            if options.denoise and split == "train":
                render = denoise(render, tracer.look.exposure)
            write_picture(picture, render)
        entry = _entry(_picture_name(options, index), camera, plane, tracer)
        entries[split].append(entry if uncut is None else entry | {"uncut_file_path": f"images/{uncut.name}"})
        if progress is not None:
            progress(index + 1, total, path)
    for split in SPLITS:
        _write_json(target / f"transforms_{split}.json", _transforms(entries[split], settings, options))
    return read_dataset(target)


def _settings(
    volume: NDArray[Any], matrix: NDArray[np.float64], look: Look, options: DatasetOptions,
    tracer: PathTracer, roi: Roi | None,
) -> dict[str, Any]:  # fmt: skip
    digest = hashlib.sha256(np.ascontiguousarray(volume).tobytes() + matrix.tobytes()).hexdigest()
    corners = tracer.corners
    box = [corners.min(axis=0), corners.max(axis=0)]
    if roi is not None:
        ends = box_corners(box_to_ras(roi))
        box = [np.maximum(box[0], ends.min(axis=0)), np.minimum(box[1], ends.max(axis=0))]
    settings: dict[str, Any] = {
        "format": "GaussianMRI cinematic data set 1",
        "volume": digest[:32],
        "roi": None if roi is None else np.asarray(roi, dtype=float).tolist(),
        "bounds": [np.asarray(x).tolist() for x in box],
        "preset": {name: value for name, value in look.to_dict().items() if name != "modality"},  # as of earlier sets
        "options": dataclasses.asdict(options),
    }
    text = json.dumps(settings, sort_keys=True)
    settings["fingerprint"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return settings


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder this data set's, or find that it is; remove what a killed process left half-written."""
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GaussianMRIError(f"{folder} cannot be made: {error.strerror or error}.") from error
    path = folder / SETTINGS
    if path.is_file():
        if _read_json(path).get("fingerprint") != settings["fingerprint"]:
            raise GaussianMRIError(
                f"{folder} holds a data set of another volume, look or other settings. Choose another folder, or "
                "repeat its settings to go on with it."
            )
    elif any((folder / "images").iterdir()):
        raise GaussianMRIError(f"{folder} holds images that are not of this data set. Choose another folder.")
    else:
        _write_json(path, settings)
    for part in [*folder.glob(".partial-*"), *(folder / "images").glob(".partial-*")]:
        part.unlink(missing_ok=True)


def _picture_name(options: DatasetOptions, index: int) -> str:
    if index < options.train:
        return f"images/train_{index:04d}.{options.format}"
    return f"images/test_{index - options.train:04d}.{options.format}"


def _entry(name: str, camera: Camera, plane: ClipPlane | None, tracer: PathTracer) -> dict[str, Any]:
    entry = {"file_path": name, "transform_matrix": (camera.camera_to_world @ _OPENGL).tolist()}
    if plane is None:
        return entry
    low, high = extent(tracer, plane.normal)
    return {**entry, "clip_plane": plane.to_dict(), "time": (plane.offset - low) / (high - low)}


def _transforms(
    frames: list[dict[str, Any]], settings: Mapping[str, Any], options: DatasetOptions
) -> dict[str, Any]:
    half = np.tan(np.radians(options.fov_degrees) / 2)
    focal = options.size / 2 / half
    return {
        "camera_model": "OPENCV",
        "camera_angle_x": 2 * float(np.arctan(half)),
        "fl_x": focal, "fl_y": focal, "cx": options.size / 2, "cy": options.size / 2,
        "w": options.size, "h": options.size,
        "units": "mm, RAS; clip_plane keeps normal . x < offset",
        "bounds": settings["bounds"],
        "fingerprint": settings["fingerprint"],
        "frames": frames,
    }  # fmt: skip


# ---- reading -----------------------------------------------------------------------------------------------


def read_dataset(folder: str | os.PathLike[str]) -> CinematicDataset:
    """A data set that `make_dataset` has finished; pictures are read when they are asked for.

    Raises:
        GaussianMRIError: no data set there, it is not finished, or a file of it is broken.
    """
    root = Path(folder)
    settings = _read_json(root / SETTINGS)
    frames: list[Frame] = []
    with reading(root / SETTINGS, "the description of a data set", _AGAIN):
        low, high = finite(settings["bounds"], (2, 3), "bounds", LARGEST_POSITION_MM)
        if not np.all(low < high):
            raise GaussianMRIError("The bounds are those of nothing.")
        red, green, blue = (float(c) for c in finite(settings["options"]["background"], (3,), "background", 1))
        background = red, green, blue
        facts = {"preset": str(settings["preset"]["name"]), **settings["options"]}
        fingerprint = str(settings["fingerprint"])
    for split in SPLITS:
        path = root / f"transforms_{split}.json"
        if not path.is_file():
            raise GaussianMRIError(
                f"The data set in {root} is not finished. Make it again with the same settings to go on with it."
            )
        with reading(path, "a list of frames", _AGAIN):
            frames += _frames(root, split, _read_json(path), background)
    return CinematicDataset(
        folder=root,
        frames=tuple(frames),
        bounds=np.stack([low, high]),
        background=background,
        fingerprint=fingerprint,
        facts=facts,
    )


def _frames(
    root: Path, split: str, content: Mapping[str, Any], background: tuple[float, float, float]
) -> Iterator[Frame]:
    fx, fy, cx, cy = (float(content[name]) for name in ("fl_x", "fl_y", "cx", "cy"))
    width, height = int(content["w"]), int(content["h"])
    if max(fx, fy, abs(cx), abs(cy)) > 1e6:
        raise GaussianMRIError("A camera's focal length or centre is beyond any picture.")
    for entry in content["frames"]:
        pose = np.linalg.inv(finite(entry["transform_matrix"], (4, 4), "frame's matrix", LARGEST_POSITION_MM) @ _OPENGL)
        plane = entry.get("clip_plane")
        camera = Camera(pose.astype(np.float64), fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)
        names = [str(entry[key]) for key in ("file_path", "uncut_file_path") if key in entry]
        for name in names:
            if os.path.isabs(name) or ".." in Path(name).parts:
                raise GaussianMRIError(f"The frame {name} does not lie in the data set.")
        cut, *uncut = (Frame(camera, None, split, name, root / name, background) for name in names)
        yield dataclasses.replace(
            cut, plane=None if plane is None else ClipPlane.from_dict(plane), uncut=uncut[0] if uncut else None
        )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise GaussianMRIError(f"There is no data set in {path.parent}: {path.name} is missing.")
    with reading(path, "the description of a data set", _AGAIN):
        content = read_json(path)
    if not isinstance(content, dict):
        raise GaussianMRIError(f"{path} does not describe a data set. Make it again.")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
