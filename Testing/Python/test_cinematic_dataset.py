"""Data sets: layout, resuming, what goes wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from trace_scenes import affine, blob, plain

from GaussianMRILib.cinematic import dataset_pictures as pictures_module
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.dataset import CinematicDataset, make_dataset, read_dataset
from GaussianMRILib.cinematic.dataset_views import DatasetOptions, draw_view, seconds_needed
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.stacks import SliceStack

pytestmark = pytest.mark.usefixtures("needs_kernels")

VOLUME, MATRIX, LOOK = blob(), affine(shape=(20, 24, 28)), plain(0.6, (0.9, 0.4, 0.2))
OPTIONS = DatasetOptions(train=5, test=2, size=24, samples=2, test_samples=4, seed=3)


def make(folder: Path, **changes: object) -> CinematicDataset | None:
    values = {"volume": VOLUME, "ijk_to_ras": MATRIX, "look": LOOK, "options": OPTIONS, **changes}
    return make_dataset(folder, **values)


def test_a_data_set_is_what_the_tracer_renders(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = make(tmp_path / "set", progress=lambda done, total, path: seen.append((done, total)))
    assert made is not None and seen == [(n, 7) for n in range(1, 8)]
    assert len(made.train) == 5 and len(made.test) == 2 and made.frames == (*made.train, *made.test)
    tracer = PathTracer(VOLUME, MATRIX, LOOK)
    for index, frame in enumerate(made.frames):
        camera, plane = draw_view(tracer, OPTIONS, index)
        assert np.allclose(frame.camera.world_to_camera, camera.world_to_camera, atol=1e-9)
        assert frame.camera.fx == pytest.approx(camera.fx) and frame.camera.width == 24
        assert np.allclose(frame.plane.normal, plane.normal) and frame.plane.offset == pytest.approx(
            plane.offset
        )
        render = tracer.render(camera, clips=[plane], samples=2 if index < 5 else 4, seed=3 * 7919 + index)
        assert np.abs(frame.image() - render.image).max() < 1.5 / 255
        assert np.abs(frame.pixels()[..., 3] - render.alpha).max() <= 0.5 / 255 + 1e-6
    white = dataclasses.replace(made.frames[0], background=(1.0, 1.0, 1.0)).image()
    assert white[0, 0].tolist() == [1, 1, 1] and made.frames[0].image()[0, 0].tolist() == [0, 0, 0]
    assert np.all(made.bounds[0] < tracer.centre) and np.all(tracer.centre < made.bounds[1])


def test_layout_is_that_of_nerf(tmp_path: Path) -> None:
    made = make(tmp_path)
    content = json.loads((tmp_path / "transforms_train.json").read_text())
    frame = content["frames"][2]
    pose = np.array(frame["transform_matrix"])
    camera = made.train[2].camera
    assert np.allclose(pose[:3, 3], camera.eye)
    assert np.allclose(-pose[:3, 2], camera.world_to_camera[2, :3])  # looks along -z
    assert np.allclose(pose[:3, 1], -camera.world_to_camera[1, :3])  # y up
    assert (tmp_path / frame["file_path"]).is_file() and 0 <= frame["time"] <= 1
    assert content["camera_angle_x"] == pytest.approx(2 * np.arctan(content["w"] / 2 / content["fl_x"]))


def test_planes_and_cameras_are_spread() -> None:
    tracer = PathTracer(VOLUME, MATRIX, LOOK)
    sphere = dataclasses.replace(OPTIONS, nearest=None, uncut=0.0)
    views = [draw_view(tracer, sphere, n) for n in range(400)]
    planes = [plane for _, plane in views if plane is not None]
    assert len(planes) == 400
    towards = np.array([(c.eye - tracer.centre) / np.linalg.norm(c.eye - tracer.centre) for c, _ in views])
    normals = np.array([p.normal for p in planes])
    for directions in (towards, normals):  # uniform on the sphere: mean 0, second moments 1/3
        assert np.abs(directions.mean(axis=0)).max() < 0.1
        assert np.abs(directions.T @ directions / 400 - np.eye(3) / 3).max() < 0.06
    inside = [
        np.any(p.signed_distance(tracer.corners) < 0) and abs(p.signed_distance(tracer.centre)) for p in planes
    ]
    assert all(inside) and max(inside) < tracer.radius
    axial = [draw_view(tracer, dataclasses.replace(sphere, planes="axial"), n)[1] for n in range(20)]
    assert all(p.normal.tolist() == [0, 0, 1] for p in axial if p)
    assert np.ptp([p.offset for p in axial if p]) > 5


def test_cameras_come_near_and_some_frames_are_uncut() -> None:
    tracer = PathTracer(VOLUME, MATRIX, LOOK)
    options = dataclasses.replace(OPTIONS, train=300, test=100, zoom=1.3, nearest=2.6, uncut=0.1)
    views = [draw_view(tracer, options, n) for n in range(400)]
    far = tracer.radius / np.sin(np.radians(options.fov_degrees / 2)) / 1.3
    forward = np.array([c.world_to_camera[2, :3] for c, _ in views])
    eyes = np.array([c.eye for c, _ in views]) - tracer.centre
    # What a camera looks at lies within what its picture leaves of the sphere, so that it shows the volume to its edges.
    along = -(eyes * forward).sum(axis=1)
    off = np.linalg.norm(eyes + along[:, None] * forward, axis=1)
    assert off.max() < 0.5 * tracer.radius + 1e-6 and np.mean(off > 0.1 * tracer.radius) > 0.4
    assert along.min() > 0.3 * far and along.max() < 1.01 * far and np.median(along) == pytest.approx(far / 2**0.5, rel=0.1)
    uncut = [plane is None for _, plane in views]
    assert 15 < sum(uncut[:300]) < 45 and not any(uncut[300:])


def test_the_time_that_frames_take_is_told_before(tmp_path: Path) -> None:
    told: list[float] = []
    there: list[int] = []

    def estimated(seconds: float, count: int) -> None:
        told.append(seconds)
        there.append(count)

    began = time.perf_counter()
    make(tmp_path / "set", estimated=estimated)
    took = time.perf_counter() - began
    assert len(told) == 1 and 0 < told[0] < 20 * took
    make(tmp_path / "set", estimated=estimated)
    assert told[1] == 0 and there == [0, 7]
    tracer = PathTracer(VOLUME, MATRIX, LOOK)
    twice = dataclasses.replace(OPTIONS, size=2 * OPTIONS.size, samples=64, test_samples=64)
    one, other = seconds_needed(tracer, OPTIONS, 10), seconds_needed(tracer, twice, 20)
    assert other > 4 * one  # eight times the paths, and 64 samples instead of fewer


def test_stopped_broken_and_partial_files_are_made_good(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    make(whole)
    count = [0]

    def after_three() -> bool:
        count[0] += 1
        return count[0] > 3

    assert make(stopped, cancelled=after_three) is None
    assert len(list((stopped / "images").iterdir())) == 3
    with pytest.raises(GaussianMRIError, match="not finished"):
        read_dataset(stopped)
    (stopped / "images" / "train_0001.png").write_bytes(b"\x89PNG\r\n\x1a\n of no use")
    (stopped / "images" / ".partial-abc-train_0003.png").write_bytes(b"half")
    kept = (stopped / "images" / "train_0000.png").stat().st_mtime_ns
    made = make(stopped)
    assert made is not None and (stopped / "images" / "train_0000.png").stat().st_mtime_ns == kept
    for frame in made.frames:
        assert (whole / frame.name).read_bytes() == (stopped / frame.name).read_bytes()
    assert len(list((stopped / "images").iterdir())) == 9  # two of them uncut


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "volume.npy", VOLUME)
    code = (
        "import sys; sys.path[:0] = [sys.argv[2]]\n"
        "from test_cinematic_dataset import *\n"
        "make(Path(sys.argv[1]), options=dataclasses.replace(OPTIONS, train=400, size=96, samples=16))"
    )
    target = tmp_path / "set"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(target), str(Path(__file__).parent)], cwd=Path(__file__).parents[2]
    )
    try:
        for _ in range(600):
            if len(list(target.glob("images/train_*"))) >= 3:
                break
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        process.wait()
    pictures = sorted(target.glob("images/train_*"))
    assert 3 <= len(pictures) < 400
    assert all(pictures_module.is_complete(path) for path in pictures)
    with pytest.raises(GaussianMRIError, match="not finished"):
        read_dataset(target)


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pictures_module.save_array

    def full(path: Path, pixels: np.ndarray) -> None:
        if "train_0002" in path.name:
            raise OSError(28, "No space left on device")
        real(path, pixels)

    options = dataclasses.replace(OPTIONS, format="npy")
    monkeypatch.setattr(pictures_module, "save_array", full)
    with pytest.raises(GaussianMRIError, match="No space left on device"):
        make(tmp_path, options=options)
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == ["train_0000.npy", "train_0001.npy"]
    monkeypatch.setattr(pictures_module, "save_array", real)
    made = make(tmp_path, options=options)
    assert made is not None and made.train[0].image().dtype == np.float32


def test_other_settings_are_refused(tmp_path: Path) -> None:
    first = make(tmp_path)
    for change in (
        {"options": dataclasses.replace(OPTIONS, size=32)},
        {"volume": VOLUME * 0.9},
        {"look": dataclasses.replace(LOOK, density=2.0)},
        {"roi": ((-5, -10, 0), (12, 9, 15))},
    ):
        with pytest.raises(GaussianMRIError, match="another volume, look or other settings"):
            make(tmp_path, **change)
    assert first.fingerprint == read_dataset(tmp_path).fingerprint
    strange = tmp_path / "strange"
    (strange / "images").mkdir(parents=True)
    shutil.copy(tmp_path / "images" / "train_0000.png", strange / "images" / "mine.png")
    with pytest.raises(GaussianMRIError, match="not of this data set"):
        make(strange)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": 0}, "at least one training"),
        ({"size": 4}, "16 to 8192"),
        ({"samples": 0}, "at least one sample"),
        ({"planes": "coronal"}, "axial"),
        ({"format": "jpg"}, "png"),
        ({"background": (0, 2, 0)}, "0 to 1"),
        ({"zoom": 0}, "zoom"),
    ],
)
def test_bad_options(change: dict, words: str) -> None:
    with pytest.raises(GaussianMRIError, match=words):
        dataclasses.replace(OPTIONS, **change)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(GaussianMRIError, match="no data set"):
        read_dataset(tmp_path)
    make(tmp_path)
    picture = read_dataset(tmp_path).train[1]
    (tmp_path / picture.name).unlink()
    with pytest.raises(GaussianMRIError, match="cannot be read"):
        picture.image()
    (tmp_path / "transforms_test.json").write_text("{")
    with pytest.raises(GaussianMRIError, match="transforms_test"):
        read_dataset(tmp_path)
    (tmp_path / "transforms_test.json").write_text("{}")
    with pytest.raises(GaussianMRIError, match="damaged"):
        read_dataset(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(GaussianMRIError, match="cannot be made"):
        make(blocked)


def test_denoising_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("GaussianMRILib.cinematic.denoise.available", lambda: False)
    with pytest.raises(GaussianMRIError, match="pip install pyoidn"):
        make(tmp_path / "set", options=dataclasses.replace(OPTIONS, denoise=True))
    assert not (tmp_path / "set").exists()


def test_denoised_images_are_nearer_to_the_truth() -> None:
    pytest.importorskip("pyoidn")
    from GaussianMRILib.cinematic.denoise import denoise

    tracer = PathTracer(VOLUME, MATRIX, LOOK)
    camera, clip = tracer.camera(azimuth=20, elevation=10, size=96), ClipPlane.from_point(tracer.centre, (1, 0, 0))
    truth = tracer.render(camera, clips=[clip], samples=1024, seed=1)
    noisy = tracer.render(camera, clips=[clip], samples=4)
    clean = denoise(noisy)
    inside = truth.alpha > 0
    errors = [((r.image - truth.image)[inside] ** 2).mean() for r in (noisy, clean)]
    assert errors[1] < errors[0] / 2 and np.array_equal(clean.alpha, noisy.alpha)


def test_stacks_as_volumes() -> None:
    from GaussianMRILib.cinematic.dataset import regular_volume

    stack = SliceStack.from_array(VOLUME, MATRIX)
    values, matrix = regular_volume(stack)
    assert np.array_equal(values, VOLUME) and np.allclose(matrix, MATRIX)
    with pytest.raises(GaussianMRIError, match="regular"):
        regular_volume(stack.subset([0, 1, 5]))


def test_command(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from GaussianMRILib.cinematic.transfer import write_volume_property
    from GaussianMRILib.cli.cinematic_dataset import dataset
    from GaussianMRILib.writers import write_volume

    write_volume(tmp_path / "bump.nrrd", VOLUME, SliceStack.from_array(VOLUME, MATRIX).planes())
    write_volume_property(tmp_path / "look.vp", LOOK.transfer)
    arguments = [
        str(tmp_path / "bump.nrrd"),
        "-o",
        str(tmp_path / "set"),
        "--preset",  # the name of version 0.1
        str(tmp_path / "look.vp"),
    ]
    arguments += "--train 2 --test 1 --size 16 --samples 1 --test-samples 2 --planes axial -q".split()
    result = CliRunner().invoke(dataset, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "2 for training, 1 held out" in result.output
    made = read_dataset(tmp_path / "set")
    assert made.facts["preset"] == "look" and made.test[0].plane.normal.tolist() == [0, 0, 1]
    assert max(frame.pixels()[..., 3].max() for frame in made.frames) > 0.5
    del arguments[3:5]  # without a look
    for name, values, look in (("mr", VOLUME * 900, "MR head"), ("ct", VOLUME * 2000 - 1000, "CT bone")):
        write_volume(tmp_path / f"{name}.nrrd", values, SliceStack.from_array(values, MATRIX).planes())
        arguments[:3] = [str(tmp_path / f"{name}.nrrd"), "-o", str(tmp_path / name)]
        result = CliRunner().invoke(dataset, arguments, catch_exceptions=False)
        assert result.exit_code == 0 and look in result.output
        assert read_dataset(tmp_path / name).facts["preset"] == look
