"""The command line on a small phantom: what it writes, what it says, how it fails."""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import GaussianMRILib as gm
from GaussianMRILib.cli import app, main
from GaussianMRILib.durations import duration, time_left
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.phantom import Phantom, lumbar_scans
from GaussianMRILib.phantom.dicom import Study, write_series
from GaussianMRILib.phantom.scanner import Scan, acquire


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return Phantom(0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, phantom: Phantom) -> Path:
    """The phantom's study with small images around the L5-S1 disc: axial, sagittal and the truth."""
    folder = tmp_path_factory.mktemp("study")
    uids = Study("command line test", 0)
    for number, scan in enumerate(lumbar_scans(phantom), 1):
        if scan.name == "truth":
            planes = phantom.disc_plane("L5-S1", spacing=(1, 1), shape=(24, 32)).stack(3, 2.0)
        else:
            middle = len(scan.planes) // 2 - (3 if scan.name == "axial" else 0)
            focus = phantom.landmark("sac")
            planes = [_small(plane, focus) for plane in scan.planes[middle - 4 : middle + 5]]
        small = Scan(scan.name, tuple(planes), noise=scan.noise, samples=3)
        (folder / scan.name).mkdir()
        write_series(
            folder / scan.name, uids, number, small.planes, acquire(phantom, small, seed=number), scan.name
        )
    return folder


def _small(plane: gm.ImagePlane, focus: np.ndarray) -> gm.ImagePlane:
    """The part of a plane, 64 x 64 pixels of about 1 mm, nearest to a point."""
    centre = focus + plane.normal * ((plane.center - focus) @ plane.normal)
    return gm.ImagePlane.from_axes(
        centre, plane.i_axis, plane.j_axis, spacing=(1.1, 1.1), shape=(64, 64), thickness=plane.thickness
    )


@pytest.fixture(scope="module")
def field_file(study: Path, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("field") / "field.npz"
    sac = phantom.landmark("sac")
    margin = np.array([16, 14, 12])
    box = np.stack([sac - margin, sac + margin], axis=1).ravel()
    result = run("fit", study / "axial", "-o", output, "--roi", *box, "--quiet", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "Gaussians" in result.output and str(output) in result.output
    return output


@pytest.fixture(scope="module")
def markups(tmp_path_factory: pytest.TempPathFactory, phantom: Phantom) -> Path:
    from GaussianMRILib.phantom.write import _write_markups

    path = tmp_path_factory.mktemp("markups") / "plane.mrk.json"
    _write_markups(path, phantom.disc_plane("L5-S1", spacing=(1, 1), shape=(16, 20)), "disc")
    return path


# ---- fit ---------------------------------------------------------------------------------------------------


def said(monkeypatch: pytest.MonkeyPatch, field: gm.GaussianField, output: Path, *arguments: object) -> str:
    """What `fit` prints of a field, without fitting one."""
    monkeypatch.setattr(importlib.import_module("GaussianMRILib.cli.fit"), "run_fit", lambda fitter: field)
    return run("fit", *arguments, "-o", output).stdout


def test_a_fit_says_how_good_it_is_or_why_nothing_does(
    study: Path, field_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = gm.GaussianField.load(field_file)
    stacks = [dict(field.report["stacks"][0], name=name) for name in ("axial", "sagittal")]
    probed = {"stack": "axial", "slices": 1, "psnr_db": 19.77, "spline_psnr_db": 18.41}
    scores = {"joint": 26.63, "axial alone": 21.4, "sagittal alone": 20.3}
    fusion = {"method": "joint", "part": None, "left_out_slices": 8, "psnr_db": scores, "note": "better"}
    fused = {"stacks": stacks, "held_out": probed, "fusion": fusion}
    for facts, line in (
        (fused, "26.63 dB PSNR on 8 slices left out (axial alone 21.40)"),
        ({**fused, "fusion": None}, "19.77 dB PSNR on 1 slice left out of axial, fitted alone (cubic spline 18.41)"),
        ({"held_out": None}, "how good it is was not measured: there are too few slices to leave any out"),
    ):  # fmt: skip
        told = replace(field, report={**field.report, **facts})
        text = said(monkeypatch, told, tmp_path / "field.npz", study / "axial")
        assert re.findall(r"^Held out +(.*)$", text, re.MULTILINE) == [line]
    assert "needs several stacks" in " ".join(run("fit", "--help").stdout.split())


# ---- info and inspect --------------------------------------------------------------------------------------


def test_info_names_the_backend_and_why() -> None:
    from GaussianMRILib import native

    facts = json.loads(run("info", "--json").stdout)
    assert facts["GaussianMRI"] == gm.__version__
    assert facts["Kernels"].startswith(native.backend().name) and native.backend().reason in facts["Kernels"]
    assert facts["CUDA"] and facts["Prior network"]
    assert facts["SIMD"] in run("info").stdout


def test_inspect_lists_stacks_without_patient(study: Path) -> None:
    result = run("inspect", study)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    axial = next(line for line in lines if "axial" in line)
    assert "9 x 64 x 64" in axial and "1.10 x 1.10" in axial and "4.50" in axial and "4.00" in axial
    assert any("sagittal" in line for line in lines) and any(
        "0.10" in line and "truth" in line for line in lines
    )
    assert "Phantom" not in result.output and "PHANTOM-0" not in result.output


def test_inspect_json_has_the_poses(study: Path, phantom: Phantom) -> None:
    stacks = {entry["orientation"]: entry for entry in json.loads(run("inspect", study, "--json").stdout)[:2]}
    assert stacks["axial"]["size"] == [9, 64, 64] and stacks["axial"]["tilt_degrees"] == pytest.approx(
        0, abs=0.01
    )
    assert np.array(stacks["axial"]["ijk_to_ras"]).shape == (9, 4, 4)
    assert stacks["sagittal"]["frame_of_reference"] == stacks["axial"]["frame_of_reference"]
    truth = json.loads(run("inspect", study / "truth", "--json").stdout)[0]
    normal = phantom.disc_plane().normal
    assert truth["tilt_degrees"] == pytest.approx(np.degrees(np.arccos(np.abs(normal).max())), abs=0.01)


# ---- fit and resample --------------------------------------------------------------------------------------


def test_field_is_what_the_library_reads(field_file: Path) -> None:
    field = gm.GaussianField.load(field_file)
    assert field.report["preset"] == "fast" and field.report["seed"] == 0
    assert len(field) > 100


def test_resample_writes_the_library_s_image(field_file: Path, markups: Path, tmp_path: Path) -> None:
    import SimpleITK

    nrrd, png, distance = tmp_path / "out.nrrd", tmp_path / "out.png", tmp_path / "distance.nii.gz"
    result = run(
        "resample", field_file, "--plane", markups, "--count", 3, "--step", 2, "-o", nrrd, "--png", png,
        "--distance", distance, "--spacing", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    planes = gm.ImagePlane.from_markups(markups, spacing=(1, 1)).stack(3, 2.0)
    expected = np.stack(gm.GaussianField.load(field_file).render_many(planes))
    volume = SimpleITK.ReadImage(str(nrrd))
    stored = SimpleITK.GetArrayFromImage(volume)
    assert stored.shape == (3, 16, 20)
    inside = np.isfinite(expected)
    assert 0.2 < inside.mean()
    np.testing.assert_allclose(stored[inside], expected[inside], rtol=1e-5)
    # The position of a pixel, in the file's LPS, is the plane's.
    lps = np.array(volume.TransformIndexToPhysicalPoint((7, 5, 2)))
    np.testing.assert_allclose(lps * [-1, -1, 1], planes[2].points()[5, 7], atol=1e-3)
    assert Image.open(png).size == (20, 16)
    away = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(distance)))
    assert 0 <= away[inside].min() and away[inside].max() <= 4.5 / 2 + 0.01


def test_resample_of_a_plane_set_has_outputs_for_each(
    field_file: Path, study: Path, phantom: Phantom, tmp_path: Path
) -> None:
    plane = phantom.disc_plane("L5-S1", spacing=(1, 1), shape=(16, 20))
    away = plane.offset(500)
    entries = []
    for name, one in (("L5/S1", plane), ("", plane.offset(2)), ("L5 S1", plane.offset(-2)), ("far", away)):
        axes = np.stack([one.i_axis, np.cross(one.normal, one.i_axis), one.normal], axis=1)
        entries.append(
            {"type": "Plane", "name": name, "coordinateSystem": "RAS", "center": one.center.tolist(),
             "orientation": axes.ravel().tolist(), "size": [20.0, 16.0, 0.0]}
        )  # fmt: skip
    markups = tmp_path / "set.mrk.json"
    markups.write_text(json.dumps({"markups": entries}))
    output = tmp_path / "out"
    output.mkdir()
    result = run(
        "resample", field_file, "--plane", markups, "--spacing", 1, "-o", output / "oblique.nii.gz",
        "--png", output / "oblique.png", "--dicom", output / "series", "--source", study / "axial",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    names = ["L5_S1", "plane2", "L5_S1_3"]
    wanted = {f"oblique-{name}{suffix}" for name in names for suffix in (".nii.gz", ".png")}
    assert {path.name for path in output.iterdir()} == wanted | {f"series-{name}" for name in names}
    assert "the plane far lies outside" in result.output
    field = gm.GaussianField.load(field_file)
    for name, offset in zip(names, (0, 2, -2), strict=True):
        expected = np.nan_to_num(field.render(plane.offset(offset)))
        stored = gm.read_stacks(output / f"oblique-{name}.nii.gz")[0]
        np.testing.assert_allclose(stored.pixels[0], expected, atol=1e-2 * np.ptp(expected))
        assert gm.read_stacks(output / f"series-{name}")[0].shape == (1, 16, 20)
    markups.write_text(json.dumps({"markups": entries[-1:] * 2}))
    nothing = run("resample", field_file, "--plane", markups, "-o", tmp_path / "x.nrrd")
    assert nothing.exit_code == 1 and "All planes lie outside" in nothing.stderr


def test_resample_of_everything_as_dicom(study: Path, tmp_path: Path) -> None:
    stack = gm.read_stacks(study / "axial")[0]
    parameters = torch.zeros(11, 1)
    parameters[:3, 0] = torch.from_numpy(stack.ijk_to_ras[4, :3] @ [32, 32, 0, 1])
    parameters[[3, 6, 8]], parameters[9:] = 0.1, 1.0
    shapes = np.array([stack.shape[1:]] * 9, np.int32)
    field = gm.GaussianField(
        parameters, 0.0, 900.0, (stack.hull(),), stack.ijk_to_ras, shapes, stack.frame_of_reference
    )
    field_file = tmp_path / "field.npz"
    field.save(field_file)
    result = run(
        "resample", field_file, "--isotropic", "--axes", "ras", "--dicom", tmp_path / "series", "--source", study / "axial",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    voxels, ijk_to_ras = gm.GaussianField.load(field_file).volume(axes="ras")
    assert f"{len(voxels)} x {voxels.shape[1]} x {voxels.shape[2]} voxels" in result.output
    stack = gm.read_stacks(tmp_path / "series")[0]
    grid = stack.grid()
    assert grid is not None and stack.shape == voxels.shape
    places = [affine @ [3, 4, 0, 1] for affine in (grid, ijk_to_ras)]
    # Readers may count slices from the other end.
    assert np.allclose(np.abs(grid[:3, :3]), np.abs(ijk_to_ras[:3, :3]), atol=1e-4)
    assert np.allclose(places[0][:2], places[1][:2], atol=1e-3)


def test_resample_of_a_box_of_everything(field_file: Path, study: Path, phantom: Phantom, tmp_path: Path) -> None:
    sac = phantom.landmark("sac")
    box = np.stack([sac - np.array([6, 5, 4]), sac + np.array([7, 6, 5])], axis=1)
    voxels, ijk_to_ras = gm.GaussianField.load(field_file).volume(spacing=1, box=box, axes="ras")
    assert voxels.shape == (9, 11, 13) and np.isfinite(voxels).all()
    common = ("resample", field_file, "--isotropic", 1, "--axes", "ras", "--source", study / "axial")
    result = run(*common, "--roi", *box.ravel(), "-o", tmp_path / "box.nrrd", "--dicom", tmp_path / "series")
    assert result.exit_code == 0, result.output
    assert "9 x 11 x 13 voxels of 1 mm" in result.output
    whole = gm.read_stacks(tmp_path / "box.nrrd")[0]
    assert np.allclose(whole.pixels, voxels, atol=1e-3) and np.allclose(whole.grid(), ijk_to_ras, atol=1e-4)
    assert gm.read_stacks(tmp_path / "series")[0].shape == voxels.shape
    result = run(*common, "--roi", 900, 910, 900, 910, 900, 910, "-o", tmp_path / "nothing.nrrd")
    assert result.exit_code == 1 and "Nothing was scanned in the box" in result.output
    assert not (tmp_path / "nothing.nrrd").exists()


def test_resample_at_center_and_normal_and_dicom(
    field_file: Path, study: Path, phantom: Phantom, tmp_path: Path
) -> None:
    import pydicom

    center, folder = phantom.landmark("sac"), tmp_path / "series"
    result = run(
        "resample", field_file, "--center", *center, "--normal", 0, 0.5, 0.87, "--size", 24, 12,
        "--spacing", 0.8, "--thickness", 2, "--dicom", folder, "--source", study / "axial",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (file,) = folder.iterdir()
    dataset = pydicom.dcmread(file)
    original = pydicom.dcmread(next((study / "axial").iterdir()))
    assert (dataset.Rows, dataset.Columns) == (12, 24)
    assert dataset.PatientID == original.PatientID and dataset.StudyInstanceUID == original.StudyInstanceUID
    assert dataset.FrameOfReferenceUID == original.FrameOfReferenceUID
    assert dataset.SeriesInstanceUID != original.SeriesInstanceUID and "DERIVED" in dataset.ImageType
    stack = gm.read_stacks(folder)[0]
    np.testing.assert_allclose(stack.plane(0).center, center, atol=1e-3)
    assert abs(stack.normal @ np.array([0, 0.5, 0.87])) == pytest.approx(np.hypot(0.5, 0.87), rel=1e-4)


def test_rendered_sac_is_as_bright_as_in_the_phantom(field_file: Path, phantom: Phantom) -> None:
    field = gm.GaussianField.load(field_file)
    plane = gm.ImagePlane.from_axes(
        phantom.landmark("sac"), (-1, 0, 0), (0, -1, 0), spacing=(0.5, 0.5), shape=(5, 5)
    )
    sac = float(np.nanmean(field.render(plane)))
    truth = 1000 * float(phantom.intensity(plane.points()).mean())
    assert sac == pytest.approx(truth, rel=0.15)


# ---- evaluate ----------------------------------------------------------------------------------------------


def test_evaluate_against_an_acquired_series(study: Path, tmp_path: Path) -> None:
    png, scores = tmp_path / "comparison.png", tmp_path / "scores.json"
    result = run(
        "evaluate", study / "axial", "--truth", study / "truth", "--method", "cubic", "--method", "linear",
        "--png", png, "--json", scores,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads(scores.read_text())
    assert set(content) == {"cubic", "linear"} and len(content["cubic"]["planes"]["psnr"]) == 3
    assert 12 < content["linear"]["psnr"] < 40 and 0.2 < content["linear"]["ssim"] < 1
    assert f"{content['cubic']['psnr']:.2f}" in result.stdout
    picture = np.asarray(Image.open(png))
    assert picture.ndim == 2 and picture.std() > 20

    # The scores are those of the library on the same pixels.
    truth, axial = gm.read_stacks(study / "truth")[0], gm.read_stacks(study / "axial")
    from GaussianMRILib.cli.comparison import mask_truth

    images = mask_truth(list(truth.pixels), truth.planes(), axial)
    scale = np.percentile(np.concatenate([image[np.isfinite(image)] for image in images]), 99.9)
    cubic = gm.spline_interpolation(axial, truth.plane(1), slice_profile=False)
    cubic = np.where(np.isfinite(images[1]), cubic, np.nan)
    assert content["cubic"]["planes"]["psnr"][1] == pytest.approx(
        gm.psnr(cubic / scale, images[1] / scale, data_range=1.0), abs=1e-3
    )


def test_matching_intensity_undoes_a_scale(study: Path, tmp_path: Path) -> None:
    truth = gm.read_stacks(study / "truth")[0]
    gm.write_volume(tmp_path / "truth.nrrd", 3 * truth.pixels + 50, truth.planes())
    axial = gm.read_stacks(study / "axial")[0]
    gm.write_volume(tmp_path / "axial.nrrd", axial.pixels, axial.planes())
    psnr = []
    for options in ((), ("--match-intensity",)):
        arguments = (
            "evaluate",
            tmp_path / "axial.nrrd",
            "--truth",
            tmp_path / "truth.nrrd",
            "--method",
            "linear",
            *options,
        )
        result = run(*arguments, "--json", tmp_path / "scores.json")
        assert result.exit_code == 0, result.output
        psnr.append(json.loads((tmp_path / "scores.json").read_text())["linear"]["psnr"])
    assert psnr[1] > psnr[0] + 5


def test_evaluate_simulates_slices_of_an_isotropic_scan(tmp_path: Path, phantom: Phantom) -> None:
    plane = gm.ImagePlane.from_axes(
        phantom.landmark("sac"), (-1, 0, 0), (0, -1, 0), spacing=(1, 1), shape=(56, 56)
    )
    planes = plane.stack(48, 1.0)
    gm.write_volume(tmp_path / "scan.nrrd", np.stack([phantom.intensity(p.points()) for p in planes]), planes)
    arguments = (
        "evaluate",
        "--isotropic",
        tmp_path / "scan.nrrd",
        "--planes",
        3,
        "--method",
        "cubic",
        "--method",
        "spline",
    )
    result = run(*arguments, "--json", tmp_path / "scores.json")
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    # The slice profile is what the spline without it lacks.
    assert scores["spline"]["psnr"] > scores["cubic"]["psnr"]


# ---- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit",),
        ("resample", "field.npz", "-o", "x.nrrd"),
        ("resample", "field.npz", "--center", "0", "0", "0", "-o", "x.nrrd"),
        ("resample", "field.npz", "--plane", "x", "--normal", "0", "0", "1", "-o", "x.nrrd"),
        ("resample", "field.npz", "--plane", "x"),
        ("resample", "field.npz", "--isotropic"),
        ("resample", "field.npz", "--isotropic", "1", "--plane", "x", "-o", "x.nrrd"),
        ("resample", "field.npz", "--plane", "x", "--axes", "ras", "-o", "x.nrrd"),
        ("resample", "field.npz", "--plane", "x", "--count", "3", "-o", "x.nrrd"),
        ("resample", "field.npz", "--plane", "x", "--count", "3", "--step", "0", "-o", "x.nrrd"),
        ("resample", "field.npz", "--plane", "x", "--step", "2", "-o", "x.nrrd"),
        ("resample", "field.npz", "--plane", "x", "--dicom", "out"),
        ("evaluate", "a", "--truth", "b", "--isotropic", "c"),
        ("evaluate", "--truth", "b"),
        ("fit", "a", "-o", "b", "--preset", "magic"),
        ("fit", "a", "-o", "b.npz", "--pitch", "0"), ("fit", "a", "-o", "b.npz", "--pitch", "-1"),
        ("fit", "a", "-o", "b.npz", "--preset", "paper", "--pitch", "1"),
        ("fit", "a", "-o", "b.npz", "--preset", "paper", "--no-register"),
        ("transmogrify",),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr and "Traceback" not in result.stderr


def test_what_the_user_can_solve_is_status_1(
    study: Path, field_file: Path, markups: Path, tmp_path: Path
) -> None:
    empty, text = tmp_path / "empty", tmp_path / "text.dcm"
    empty.mkdir()
    text.write_text("no image")
    output = tmp_path / "field.npz"
    cases: list[tuple[tuple[object, ...], str]] = [
        (("fit", tmp_path / "nowhere", "-o", output), "nowhere"),
        (("fit", empty, "-o", output), "empty"),
        (("fit", text, "-o", output), "text.dcm"),
        (("fit", study / "axial", "-o", tmp_path / "no folder" / "field.npz"), "no folder"),
        (("fit", study / "axial", "-o", empty), "folder"),
        (("fit", study / "axial", "-o", output, "--stack", 4), "no stack 4"),
        (("fit", study / "axial", "-o", output, "--roi", 900, 950, 0, 10, 0, 10), "region of interest"),
        (("resample", text, "--plane", markups, "-o", tmp_path / "x.nrrd"), "not a GaussianMRI field"),
        (("resample", field_file, "--plane", text, "-o", tmp_path / "x.nrrd"), "text.dcm"),
        (("resample", field_file, "--center", 0, 0, 900, "--normal", 0, 0, 1, "-o", tmp_path / "x.nrrd"), "outside"),
        (("resample", field_file, "--plane", markups, "-o", tmp_path / "x.tiff"), "tiff"),
        (("evaluate", "--isotropic", study / "axial"), "cubic voxels"),
    ]  # fmt: skip
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        cases.append((("resample", field_file, "--plane", markups, "--png", tmp_path / "pipe.png"), "is a pipe or a device"))
    # The voxels of a header of text are an input too, whatever the name of their file.
    plane = ImagePlane.from_normal((0, 0, 0), (0, 0, 1), spacing=(1, 1), shape=(8, 8))
    gm.write_volume(tmp_path / "whole.nrrd", np.zeros((2, 8, 8)), plane.stack(2, 1.0))
    (tmp_path / "voxels.nrrd").write_bytes(bytes(2 * 8 * 8))
    fields = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 8 2\nspacings: 1 1 1\nencoding: raw\ndata file: voxels.nrrd\n"
    (tmp_path / "a.nhdr").write_text(fields)
    onto = ("labels", tmp_path / "whole.nrrd", "--onto", tmp_path / "a.nhdr", "-o", tmp_path / "voxels.nrrd")
    cases.append((onto, "voxels.nrrd is an input, which is never overwritten"))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for arguments, expected in cases:
        result = run(*arguments)
        assert result.exit_code == 1, (arguments, result.output)
        assert result.stderr.startswith("Error: ") and "Traceback" not in result.stderr
        assert expected in result.stderr, (arguments, result.stderr)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before  # nothing was written


def test_every_command_has_help_with_an_example() -> None:
    assert "Exit status:" in run("--help").stdout
    for name in main.commands:
        text = run(name, "--help").stdout
        assert f"  gaussianmri {name}" in text and "Example" in text


def test_every_command_says_its_help_for_h() -> None:
    def below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, command in group.commands.items():
            yield (*words, name)
            if isinstance(command, click.Group):
                yield from below(command, (*words, name))

    paths = [(), *below(main, ()), ("experiment", "phantom")]
    assert len(paths) > 20
    for path in paths:
        result = run(*path, "-h")
        assert result.exit_code == 0 and "-h, --help" in result.stdout, (path, result.output)


def test_without_a_terminal_progress_is_lines_that_tell_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LINES_EVERY", 0.02)
    with app.progress_bar("Rendering") as bar:
        for done in (0.1, 0.2, 0.4):
            time.sleep(0.05)
            bar.set_description_str("Rendering: frames", refresh=False)
            app.advance(bar, done)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2 and "\r" not in "".join(lines)
    assert re.fullmatch(r"Rendering: frames:  \d0%, \d\d:\d\d, about \d\d:\d\d left", lines[-1]), lines
    monkeypatch.setattr(app, "LINES_EVERY", 30.0)
    with app.progress_bar("Rendering") as bar:  # short work needs no line
        app.advance(bar, 0.5)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min"), (3540, "59 min"), (3600, "1 h"), (7830, "2 h 10 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_time_left_is_told_once_it_means_something() -> None:
    assert time_left(1, 0.5) == time_left(100, 0) == time_left(100, 0.99) == time_left(100, 1) == ""
    assert time_left(30, 0.25) == ", about 2 min left"
