"""`gaussianmri cinematic` on a small data set: what it writes, what it says, how it fails."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cinematic_scenes import CENTER, ball_data_set
from click.testing import CliRunner, Result
from PIL import Image
from trace_scenes import plain

from GaussianMRILib.cinematic.camera import Camera
from GaussianMRILib.cinematic.clip import ClipPlane
from GaussianMRILib.cinematic.cut_face import CutFace
from GaussianMRILib.cinematic.evaluate import HEADER
from GaussianMRILib.cinematic.model_files import load_model, save_model
from GaussianMRILib.cinematic.tracer import PathTracer
from GaussianMRILib.cli import main
from GaussianMRILib.stacks import SliceStack
from GaussianMRILib.writers import write_volume


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["cinematic", *map(str, arguments)], catch_exceptions=False)


def train(folder: Path, output: Path, *more: object) -> Result:
    return run(
        "train", folder, "-o", output, "--splats", 80, "--iterations", 90, "-q",
        "--start", "random", "--device", "cpu", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ball_data_set(tmp_path_factory.mktemp("ball") / "set", train=8, test=2, size=32).folder


@pytest.fixture(scope="module")
def ball(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("model") / "ball.ply"
    done = train(folder, output)
    assert done.exit_code == 0, done.output
    assert "3DGS + analytic cut" in done.output and "90 of 90" in done.output and str(output) in done.output
    assert load_model(output).facts["options"]["width"] == 64  # the look "quick", as there is no GPU
    assert sorted(p.name for p in output.parent.iterdir()) == [
        "ball.json",
        "ball.ply",
    ]  # no checkpoint is left
    return output


def test_training_goes_on_from_a_named_checkpoint(folder: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "state.ckpt"
    assert train(folder, tmp_path / "a.ply", "--checkpoint", checkpoint, "--method", "aam+lt").exit_code == 0
    assert checkpoint.is_file()
    again = train(folder, tmp_path / "b.ply", "--checkpoint", checkpoint, "--method", "aam+lt")
    assert again.exit_code == 0 and (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    broken = train(folder, tmp_path / "c.ply", "--checkpoint", checkpoint, "--method", "aam+lt")
    assert broken.exit_code == 1 and "truncated" in broken.output and not (tmp_path / "c.ply").exists()


def test_a_picture_is_what_the_model_renders(ball: Path, tmp_path: Path) -> None:
    done = run(
        "render", ball, "-o", tmp_path / "cut.png", "--clip", 0, 0, 2, 25, "--azimuth", 90, "--elevation", 0,
        "--distance", 160, "--size", 48, 40, "-q",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    model = load_model(ball)
    camera = Camera.look_at(model.center - np.array([160, 0, 0]), model.center, size=(48, 40))
    expected = model.render(camera, ClipPlane(np.array([0, 0, 1.0]), 25)).image.clamp(0, 1).numpy() * 255
    picture = np.asarray(Image.open(tmp_path / "cut.png")).astype(float)
    assert picture.shape == (40, 48, 3) and np.abs(picture - expected).max() <= 0.51
    assert picture.max() > 40


def test_a_model_is_seen_from_above(ball: Path, tmp_path: Path) -> None:
    done = run("render", ball, "-o", tmp_path / "top.png", "--elevation", 90, "--size", 24, 24, "-q")
    assert done.exit_code == 0 and np.asarray(Image.open(tmp_path / "top.png")).max() > 40, done.output


def test_a_picture_higher_than_wide_shows_all(ball: Path, tmp_path: Path) -> None:
    done = run("render", ball, "-o", tmp_path / "high.png", "--size", 30, 60, "-q")
    assert done.exit_code == 0, done.output
    picture = np.asarray(Image.open(tmp_path / "high.png")).max(axis=2)
    assert picture[:, [0, -1]].mean() < 0.2 * picture[:, 15].mean() and picture.max() > 40


def test_cut_faces_can_be_left_out(ball: Path, folder: Path, tmp_path: Path) -> None:
    model = load_model(ball)
    volume = np.ones((40, 40, 40), dtype=np.float32)
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = model.center - 39
    model.face = CutFace.of(PathTracer(volume, matrix, plain(0.99, (0.1, 0.2, 0.9))))
    faced = save_model(tmp_path / "faced.ply", model)
    options = "--clip", 0, 0, 2, 25, "--size", 40, 40, "-q"
    for name, file, more in (("a", ball, ()), ("b", faced, ()), ("c", faced, ("--splats-only",))):
        assert run("render", file, "-o", tmp_path / f"{name}.png", *options, *more).exit_code == 0
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in "abc")
    assert np.array_equal(a, c) and b[20, 20, 2] > 2 * b[20, 20, 0] and np.abs(a - b).max() > 50
    plain_row, with_row, without = (
        run("evaluate", folder, file, *more, "-q").output.split("analytic cut")[1].split()[:3]
        for file, more in ((ball, ()), (faced, ()), (faced, ("--splats-only",)))
    )
    assert plain_row == without != with_row


def test_films(ball: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("render", ball, "-o", tmp_path / "turn", "--turntable", 3, "--size", 24, 24, "-q")
    assert done.exit_code == 0 and "3 frames" in done.output
    assert len(list((tmp_path / "turn").glob("frame-*.png"))) == 3
    done = run("render", ball, "-o", tmp_path / "sweep", "--sweep", 4, "--size", 24, 24, "-q")
    pictures = [np.asarray(Image.open(p)).astype(float) for p in sorted((tmp_path / "sweep").iterdir())]
    assert len(pictures) == 4 and pictures[0].sum() > 1.2 * pictures[2].sum()  # the plane takes most away
    assert np.abs(pictures[1] - pictures[3]).max() < 1
    monkeypatch.setenv("PATH", "")
    failed = run("render", ball, "-o", tmp_path / "turn.mp4", "--turntable", 3, "-q")
    assert failed.exit_code == 1 and "ffmpeg" in failed.output
    for wrong in (
        ("--sweep", 4, "--turntable", 3, "-o", tmp_path / "x"),
        ("--sweep", 4, "-o", tmp_path / "x.png"),
        ("-o", tmp_path / "x.jpg"),
        ("--sweep", 4, "-o", tmp_path / "x.gif"),
        ("--turntable", 4, "-o", tmp_path / "x.webm"),
    ):
        assert run("render", ball, *wrong).exit_code == 2
        assert not wrong[-1].exists()
    for wrong, words in (
        (("--fov", 0), "field of view must be"), (("--distance", -300), "distance must be above 0"),
    ):  # fmt: skip
        failed = run("render", ball, "-o", tmp_path / "y.png", *wrong)
        assert failed.exit_code == 1 and words in failed.output and not (tmp_path / "y.png").exists()
    named = run("render", ball, "-o", tmp_path / "turn.v2", "--turntable", 1, "--size", 8, 8, "-q")
    assert named.exit_code == 0 and (tmp_path / "turn.v2" / "frame-0000.png").is_file()


def test_evaluation_prints_the_paper_s_columns(ball: Path, folder: Path, tmp_path: Path) -> None:
    done = run("evaluate", folder, ball, ball, "--json", tmp_path / "scores.json", "-q", "--device", "cpu")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert re.split(r"\s{2,}", lines[0].strip()) == list(HEADER)
    assert lines[2].startswith("ball.ply: 3DGS + analytic cut") and lines[2].endswith("MB")
    assert "over 2 frames of 32 x 32 pixels" in done.output and "Leak is not available" in done.output
    (score,) = json.loads((tmp_path / "scores.json").read_text()).values()
    assert f"{score['psnr_mean']:.2f} ±" in lines[2] and len(score["psnr"]) == 2
    assert score["method"] == "analytic" and score["splats"] == 80


def test_export(ball: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("a.spz", "a.glb", "a.ply"):
        done = run("export", ball, "-o", tmp_path / name, "--clip", 0, 0, 1, CENTER[2])
        assert done.exit_code == 0 and (tmp_path / name).stat().st_size > 500
    cut = load_model(tmp_path / "a.ply")
    assert len(cut) < 80 and float(cut.splats.means[:, 2].max()) < CENTER[2] + 1
    assert "a.ply: already cut" in run("evaluate", folder, tmp_path / "a.ply", "-q", "--device", "cpu").output
    itself = run("export", ball, "-o", ball)
    assert itself.exit_code == 1 and "never overwritten" in itself.output
    plane = tmp_path / "plane.mrk.json"
    markup = {"type": "Plane", "coordinateSystem": "RAS", "center": [0, 0, -1000], "normal": [0, 0, 1]}
    plane.write_text(json.dumps({"markups": [markup]}))
    nothing = run("export", ball, "-o", tmp_path / "b.spz", "--plane", plane)
    assert nothing.exit_code == 1 and f"{plane} removes every splat" in nothing.output
    both = run("export", ball, "-o", tmp_path / "b.spz", "--plane", plane, "--clip", 0, 0, 1, 0)
    assert both.exit_code == 1 and "The planes remove every splat" in both.output
    sweep = run("render", ball, "-o", tmp_path / "c", "--sweep", 4, "--clip", 0, 0, 1, 0, "--clip", 1, 0, 0, 0)
    assert sweep.exit_code == 2 and "moves one plane" in sweep.output


@pytest.mark.parametrize("command", ["picture", "dataset"])
def test_of_several_stacks_one_is_chosen(command: str, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name, value in (("first", 300.0), ("second", 900.0)):
        voxels = np.zeros((8, 9, 10), dtype=np.float32)
        voxels[2:6, 2:7, 2:8] = value
        write_volume(scans / f"{name}.nrrd", voxels, SliceStack.from_array(voxels, np.diag([2.0, 2, 2, 1])).planes())
    output = tmp_path / ("x.png" if command == "picture" else "set")
    small = ("--size", 16, 16) if command == "picture" else ("--size", 16, "--train", 1, "--test", 0)
    arguments = command, scans, "-o", output, *small, "--samples", 1, "--device", "cpu", "-q"
    several = run(*arguments)
    assert several.exit_code == 1 and "2 stacks" in several.output and not output.exists()
    assert "--stack" in several.output and "1  first" in several.output and "2  second" in several.output
    done = run(*arguments, "--stack", 2)
    assert done.exit_code == 0 and output.exists() and re.search(r"^Stack +second$", done.output, re.M), done.output
    wrong = run(*arguments, "--stack", 3)
    assert wrong.exit_code == 1 and "There is no stack 3" in wrong.output


def test_what_is_not_there_is_named(tmp_path: Path, ball: Path) -> None:
    for arguments in (
        ("train", tmp_path / "none", "-o", tmp_path / "a.ply"),
        ("evaluate", tmp_path / "none", ball),
        ("render", tmp_path / "none.ply", "-o", tmp_path / "a.png"),
    ):
        done = run(*arguments)
        assert done.exit_code == 1 and "none" in done.output
    assert run("train", tmp_path, "-o", tmp_path / "a.txt").exit_code == 2
