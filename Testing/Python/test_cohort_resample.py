"""`gaussianmri cohort`: planes of many studies, from markups or aligned with discs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from rsna_files import Copy, axial_planes, phantom, phantom_study, scans, true_disc

from GaussianMRILib import cli
from GaussianMRILib.baselines import LinearInterpolator, VoxelInterpolator
from GaussianMRILib.cli import cohort
from GaussianMRILib.cohort import CohortReport
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.grading import resample_studies
from GaussianMRILib.grading.disc_sources import write_discs
from GaussianMRILib.grading.resample_studies import ResampleOptions, resample_cohort
from GaussianMRILib.grading.roi import aligned_planes, region_of
from GaussianMRILib.phantom.write import _write_markups
from GaussianMRILib.stacks import SliceStack, read_stacks


def write_markups(path: Path, plane: ImagePlane, name: str) -> None:
    """A markups file of one plane with a name."""
    _write_markups(path, plane, name)
    content = json.loads(path.read_text())
    content["markups"][0]["name"] = name
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Two studies and one without images; discs in each study's folder."""
    copy = Copy(tmp_path_factory.mktemp("cohort") / "rsna")
    for study in "12":
        phantom_study(copy, study, ("straight", "sagittal"))
        copy.grade(study)
        write_discs(copy.images / study / "discs.json", {"L5/S1": true_disc()})
    copy.grade("3")
    copy.save()
    write_markups(copy.folder / "1.mrk.json", phantom().disc_plane("L5-S1"), "my plane")
    return copy


def test_planes_aligned_with_discs(copy: Copy, tmp_path: Path) -> None:
    options = ResampleOptions(
        methods=("voxel", "linear"), levels=("L5/S1",), discs="discs.json", count=3, step=3.0, picture=True
    )
    report = resample_cohort(copy.folder, tmp_path, options, workers=1)
    assert report.done == ["1", "2"] and report.failed == ["3"] and "no folder" in report.rows["3"].lines[0]
    names = {path.name for path in (tmp_path / "1").iterdir()}
    assert names == {
        f"L5-S1-{method}{suffix}" for method in ("voxel", "linear") for suffix in (".nrrd", ".png")
    }
    written = read_stacks(tmp_path / "2" / "L5-S1-voxel.nrrd")[0]
    planes = aligned_planes(region_of(true_disc()), 3, 3.0)
    assert np.allclose(written.ijk_to_ras, [plane.ijk_to_ras for plane in planes], atol=1e-4)
    source = read_stacks(copy.images / "2" / "21")
    expected = np.nan_to_num(VoxelInterpolator(source).render(planes[1]))
    assert np.abs(written.pixels[1] - expected).max() < 1e-3 * expected.max() and expected.max() > 300
    assert resample_cohort(copy.folder, tmp_path, options, studies=["1", "2"], workers=1).resumed == 2


def test_planes_of_markups_in_a_folder_of_studies(copy: Copy, tmp_path: Path) -> None:
    """Without the RSNA layout: every folder is a study."""
    options = ResampleOptions(methods=("linear",), planes=str(copy.folder / "{study}.mrk.json"))
    report = resample_cohort(copy.images, tmp_path, options, workers=1)
    assert report.done == ["1"] and report.failed == ["2"] and "2.mrk.json" in report.rows["2"].lines[0]
    written = read_stacks(tmp_path / "1" / "my_plane-linear.nrrd", thickness=1.0)[0]
    assert np.allclose(
        written.ijk_to_ras[0][:3, :2], phantom().disc_plane("L5-S1").ijk_to_ras[:3, :2], atol=1e-4
    )
    sagittal = ResampleOptions(
        methods=("linear",), planes=str(copy.folder / "1.mrk.json"), direction="sagittal", series="sag"
    )
    with pytest.raises(GaussianMRIError, match="other settings"):
        resample_cohort(copy.images, tmp_path, sagittal, workers=1)
    report = resample_cohort(copy.images, tmp_path / "other", sagittal, studies=["1"], workers=1)
    assert report.failed == ["1"] and "No stack that can be used is sagittal" in report.rows["1"].lines[0]


def test_what_an_earlier_run_made_survives_a_failure(copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole: nothing of the failed run is among it, although its first method came to an end."""
    planes = tmp_path / "planes.mrk.json"
    write_markups(planes, phantom().disc_plane("L5-S1"), "disc")
    options = ResampleOptions(methods=("linear", "cubic"), planes=str(planes), picture=True)

    def run() -> CohortReport:
        return resample_cohort(copy.images, tmp_path / "out", options, studies=["1"], workers=1)

    assert run().done == ["1"]
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "1").iterdir()}
    write_markups(planes, phantom().disc_plane("L4-L5"), "disc")
    rendered = resample_studies._rendered

    def fails(method: str, *given: Any) -> Any:
        if method == "cubic":
            # A process that is killed here, as for lack of memory, leaves nothing either.
            assert {path.name for path in (tmp_path / "out" / "1").iterdir()} == before.keys()
            raise GaussianMRIError("no more memory")
        return rendered(method, *given)

    monkeypatch.setattr(resample_studies, "_rendered", fails)
    report = run()
    assert report.failed == ["1"] and report.rows["1"].lines[0] == "no more memory" and len(before) == 4
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "1").iterdir()} == before
    monkeypatch.undo()
    assert run().done == ["1"]
    after = {path.name: path.read_bytes() for path in (tmp_path / "out" / "1").iterdir()}
    assert after.keys() == before.keys() and all(after[name] != before[name] for name in after)


def test_gaussians_are_fitted_around_the_planes(copy: Copy, tmp_path: Path) -> None:
    options = ResampleOptions(methods=("fast",), levels=("L5/S1",), discs="discs.json", count=1)
    report = resample_cohort(copy.folder, tmp_path, options, studies=["1"], workers=1)
    assert report.done == ["1"]
    pixels = read_stacks(tmp_path / "1" / "L5-S1-fast.nrrd", thickness=1.0)[0].pixels[0]
    truth = phantom().intensity(region_of(true_disc()).plane().points()) * 1000
    inside = pixels != 0
    assert inside.mean() > 0.5 and np.corrcoef(pixels[inside], truth[inside])[0, 1] > 0.8


def test_planes_outside_the_scan(copy: Copy, tmp_path: Path) -> None:
    write_markups(tmp_path / "far.mrk.json", axial_planes((300, 0, 0))[0], "far")
    options = ResampleOptions(methods=("linear",), planes=str(tmp_path / "far.mrk.json"))
    report = resample_cohort(copy.images, tmp_path / "out", options, studies=["1"], workers=1)
    assert report.failed == ["1"] and "far.mrk.json) lies outside the scanned region" in report.rows["1"].lines[0]
    both = ResampleOptions(methods=("linear",), levels=("L5/S1",), discs="discs.json", planes=str(tmp_path / "far.mrk.json"))
    report = resample_cohort(copy.images, tmp_path / "both", both, studies=["1"], workers=1)
    told = f"far ({tmp_path / 'far.mrk.json'}) lies outside the scanned region"
    assert report.done == ["1"] and report.rows["1"].lines == (told,)
    assert [path.name for path in (tmp_path / "both" / "1").iterdir()] == ["L5-S1-linear.nrrd"]
    assert read_stacks(tmp_path / "both" / "1" / "L5-S1-linear.nrrd")[0].shape == (9, 112, 224)


def test_a_disc_outside_the_scan_is_named_with_its_file(copy: Copy, tmp_path: Path) -> None:
    frame = true_disc().frame.copy()
    frame[0, 3] += 400
    ends = [points + np.array([400, 0, 0]) for points in (true_disc().posterior, true_disc().anterior)]
    far = replace(true_disc(), frame=frame, posterior=ends[0], anterior=ends[1])
    path = write_discs(tmp_path / "far.json", {"L5/S1": far})
    options = ResampleOptions(methods=("linear",), levels=("L5/S1",), discs=str(path))
    report = resample_cohort(copy.images, tmp_path / "out", options, studies=["1"], workers=1)
    assert report.failed == ["1"]
    assert report.rows["1"].lines[0].startswith(f"L5-S1 ({path}) lies outside the scanned region")


def test_names_of_planes_differ_in_more_than_case(copy: Copy, tmp_path: Path) -> None:
    write_markups(tmp_path / "one.mrk.json", scans()["aligned"][0][4], "Disc")
    content = json.loads((tmp_path / "one.mrk.json").read_text())
    content["markups"] += [{**content["markups"][0], "name": name} for name in ("disc", "L5-S1")]
    (tmp_path / "one.mrk.json").write_text(json.dumps(content))
    options = ResampleOptions(
        methods=("linear",), levels=("L5/S1",), discs="discs.json", planes=str(tmp_path / "one.mrk.json")
    )
    assert resample_cohort(copy.images, tmp_path / "out", options, studies=["1"], workers=1).done == ["1"]
    names = sorted(path.name for path in (tmp_path / "out" / "1").iterdir())
    assert names == [f"{name}-linear.nrrd" for name in ("Disc", "L5-S1", "L5-S1_3", "disc_2")]


def test_a_plane_that_moved_is_resampled_again(copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_markups(tmp_path / "1.mrk.json", scans()["aligned"][0][4], "plane")
    monkeypatch.chdir(tmp_path)
    options = ResampleOptions(methods=("linear",), planes="{study}.mrk.json")

    def resampled() -> tuple[int, np.ndarray]:
        report = resample_cohort(copy.images, tmp_path / "out", options, studies=["1"], workers=1)
        return report.resumed, read_stacks(tmp_path / "out" / "1" / "plane-linear.nrrd")[0].ijk_to_ras[0]

    _, before = resampled()
    one, other = scans()["aligned"][0][4:6]
    write_markups(tmp_path / "1.mrk.json", other, "plane")
    resumed, pose = resampled()
    assert resumed == 0 and np.allclose(pose[:3, 3] - before[:3, 3], other.center - one.center, atol=1e-4)
    assert resampled()[0] == 1
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # where the same words name another file
    with pytest.raises(GaussianMRIError, match="other settings"):
        resampled()


def test_interpolation_takes_one_of_two_acquisitions(copy: Copy, tmp_path: Path) -> None:
    study = tmp_path / "studies" / "1"
    first = shutil.copytree(copy.images / "1" / "11", study / "first")
    shutil.copytree(first, study / "repeat")
    for path in (study / "repeat").iterdir():  # the patient has moved
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[0] += 3
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.3", f"1.2.3.{path.stem}"
        dataset.SeriesNumber, dataset.SeriesDescription = 99, "repeat"
        dataset.save_as(path)
    one, other = read_stacks(study)
    write_markups(tmp_path / "p.mrk.json", scans()["straight"][0][4], "plane")
    options = ResampleOptions(methods=("linear",), planes=str(tmp_path / "p.mrk.json"))
    row = resample_cohort(tmp_path / "studies", tmp_path / "out", options, workers=1).rows["1"]
    assert row.outcome == "done" and row.stacks == (f"linear: {one.name}",) and row.files == ("1/plane-linear.nrrd",)
    assert row.lines == (
        f"linear: {other.name} left out, in the place of another stack with which it would be averaged; --series chooses by "
        "name",
    )
    ((_, plane),) = ImagePlane.set_from_markups(tmp_path / "p.mrk.json", spacing=None, shape=None, thickness=0.0)
    written = read_stacks(tmp_path / "out" / "1" / "plane-linear.nrrd")[0].pixels[0]
    alone, moved = (np.nan_to_num(LinearInterpolator([stack]).render(plane)) for stack in (one, other))
    assert np.abs(written - alone).max() < 1e-2 < np.abs(written - moved).max()
    options = replace(options, series="repeat")
    row = resample_cohort(tmp_path / "studies", tmp_path / "repeat", options, workers=1).rows["1"]
    assert row.stacks == (f"linear: {other.name}",) and row.lines == ()


def test_planes_beyond_the_end_of_an_acquisition_are_shown_by_its_repeat() -> None:
    """And those that either shows are the mean of none."""
    noise = np.random.default_rng(1).random((2, 20, 64, 64), dtype=np.float32)
    poses = [np.diag([1.0, 1.0, 4.0, 1.0]) for _ in range(2)]
    poses[1][2, 3] = 32
    one, other = (SliceStack.from_array(noise[n], poses[n], name="ab"[n]) for n in range(2))
    planes = [
        ImagePlane.from_axes((32, 32, z), (1, 0, 0), (0, 1, 0), spacing=(1, 1), shape=(32, 32)) for z in (10, 50, 100)
    ]
    options = ResampleOptions(methods=("linear",), planes="p.mrk.json")
    images, used = resample_studies._rendered("linear", [one, other], {"low": planes[:1], "high": planes[1:]}, options)
    assert [stack.name for stack in used] == ["a", "b"]
    for image, plane, shown in zip([*images["low"], *images["high"]], planes, (one, one, other), strict=True):
        assert np.isfinite(image).all() and np.array_equal(image, LinearInterpolator([shown]).render(plane))


def test_what_to_do_about_several_contrasts_is_what_the_command_has(copy: Copy, tmp_path: Path) -> None:
    study = tmp_path / "studies" / "1"
    for name, echo in (("11", 20), ("12", 90)):
        shutil.copytree(copy.images / "1" / name, study / name)
        for path in (study / name).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.EchoTime = echo
            dataset.save_as(path)
    options = ResampleOptions(methods=("linear",), planes=str(copy.folder / "1.mrk.json"), direction="all")
    report = resample_cohort(tmp_path / "studies", tmp_path / "out", options, workers=1)
    (line,) = report.rows["1"].lines
    assert "EchoTime 20 and 90 ms" in line and "--series TEXT" in line and "any_contrast" not in line
    for path in (study / "12").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.EchoTime, dataset.FrameOfReferenceUID = 20, "1.2.3"
        dataset.save_as(path)
    (line,) = resample_cohort(tmp_path / "studies", tmp_path / "out", options, workers=1).rows["1"].lines
    assert "different frames of reference" in line and "--series TEXT" in line and "same_frame" not in line


def test_a_cancelled_fit_stops(monkeypatch: pytest.MonkeyPatch, copy: Copy) -> None:
    monkeypatch.setattr(resample_studies, "stopping", lambda: True)
    stacks = read_stacks(copy.images / "1" / "11")
    planes = {"a": [scans()["aligned"][0][4]]}
    for method in ("fast", "voxel"):
        with pytest.raises(GaussianMRIError, match="cancelled"):
            resample_studies._rendered(method, stacks, planes, ResampleOptions(methods=(method,), levels=("L5/S1",)))


def test_what_cannot_be_asked_for(copy: Copy, tmp_path: Path) -> None:
    for changes, message in (
        ({"methods": ("magic",)}, "Methods are"),
        ({"levels": ()}, "where the planes are"),
        ({"direction": "up"}, "no direction"),
        ({"planes": "x.mrk.json", "count": 3}, "need a step"),
        ({"planes": "x.mrk.json", "count": 3, "step": 0.0}, "step between planes"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            ResampleOptions(**{"levels": ("L5/S1",), **changes})
    options = ResampleOptions(methods=("linear",), levels=("L5/S1",))
    with pytest.raises(GaussianMRIError, match="need files of discs"):
        resample_cohort(copy.images, tmp_path / "a", options)
    one = ResampleOptions(methods=("linear",), levels=("L5/S1",), discs=str(copy.images / "1" / "discs.json"))
    with pytest.raises(GaussianMRIError, match="discs belong to one study"):
        resample_cohort(copy.folder, tmp_path / "a", one)
    with pytest.raises(GaussianMRIError, match="no study 9"):
        resample_cohort(copy.folder, tmp_path / "a", options, studies=["9"])
    with pytest.raises(GaussianMRIError, match="is no folder"):
        resample_cohort(copy.folder / "nowhere", tmp_path / "a", options)
    (tmp_path / "empty").mkdir()
    with pytest.raises(GaussianMRIError, match="no folder of a study"):
        resample_cohort(tmp_path / "empty", tmp_path / "a", options)
    for output in (copy.images, copy.images / "planes"):
        with pytest.raises(GaussianMRIError, match=r"lies in .*, where it would be a study"):
            resample_cohort(copy.images, output, replace(one, levels=("L5/S1",)))
    assert not (copy.images / "planes").exists()


def test_the_command(copy: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["cohort", str(copy.folder), "-o", str(tmp_path / "out"), "--level", "L5/S1", "--discs", "discs.json",
                 "--method", "linear", "--count", "2", "--workers", "1", "-q"]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    text = capsys.readouterr().out
    assert ended.value.code == 1 and "3: failed: Study 3 is in the tables" in text
    assert (
        "3 studies: 2 done (0 with remarks), 1 failed" in text and (tmp_path / "out" / "report.csv").is_file()
    )
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    told = capsys.readouterr()
    assert ended.value.code == 1 and "1 of 3 studies failed, the others are done" in told.err
    assert "1 failed; 2 kept from an earlier run" in told.out
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--study", "1"])
    assert ended.value.code == 0  # what failed is none of this run's studies
    alone = CliRunner().invoke(cohort, [*arguments[1:3], str(tmp_path / "b"), *arguments[4:], "--study", "3"])
    assert isinstance(alone.exception, GaussianMRIError) and "No study could be used" in str(alone.exception)
