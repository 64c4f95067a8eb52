"""Inputs that were once read wrongly without a word: the right answer of each case in ../shared/cases/reading."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from GaussianMRILib.cli import main
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.stacks import SliceStack, read_stacks

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "reading"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs the cases in ../shared/cases/reading")


def case(number: str) -> Path:
    (folder,) = CASES.glob(f"{number}-*")
    return folder / "data"


def shapes(stacks: list[SliceStack]) -> list[tuple[tuple[int, int, int], float]]:
    return [(stack.shape, round(stack.spacing, 3)) for stack in stacks]


@pytest.mark.parametrize("number", ["01", "06", "07", "09", "12", "14"])
def test_the_series_is_one_stack_whatever_lies_beside_it(number: str, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        stacks = read_stacks(case(number))
    assert shapes(stacks) == [((12, 24, 20), 4.4)] and not stacks[0].notes
    said = {
        "06": "mrs.dcm: a spectrum",
        "07": "sc.dcm has an ImageOrientationPatient",
        "12": "12 series of one slice each",
        "14": "t.nii holds 2 volumes",
    }
    assert said.get(number, "") in caplog.text and bool(caplog.text) == (number in said)


def test_what_is_not_an_image_is_said_when_it_is_alone() -> None:
    with pytest.raises(GaussianMRIError, match=r"mrs\.dcm holds no image"):
        read_stacks(case("06") / "mrs.dcm")
    with pytest.raises(GaussianMRIError, match="ImageOrientationPatient"):
        read_stacks(case("07") / "sc.dcm")
    with pytest.raises(GaussianMRIError, match="2 volumes"):
        read_stacks([case("14") / "i000.dcm", case("14") / "t.nii"])


def test_contrasts_of_one_folder_are_never_fitted_together(tmp_path: Path) -> None:
    output = tmp_path / "f.npz"
    result = CliRunner().invoke(main, ["fit", str(case("02")), "-o", str(output), "-q"])
    assert result.exit_code == 1 and not output.exists()
    assert "magnitude" in result.output and "phase" in result.output and "--stack" in result.output
    for group in (1, 2):
        assert f"gaussianmri fit {case('02')} --group {group} -o {output}" in result.output


def test_time_points_that_drift() -> None:
    stacks = read_stacks(case("04"))
    assert shapes(stacks) == [((12, 24, 20), 4.0)] * 3
    assert [stack.name[-12:] for stack in stacks] == [f"time point {n}" for n in (1, 2, 3)]


def test_a_segmentation_is_no_stack(caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        assert shapes(read_stacks(case("05"))) == [((6, 24, 20), 4.4)]
    assert "seg.dcm" in caplog.text and "SEG" in caplog.text


def test_slices_at_one_place_are_refused(tmp_path: Path) -> None:
    for command in (["inspect"], ["fit", "-o", str(tmp_path / "f.npz")]):
        result = CliRunner().invoke(main, [*command, str(case("15"))])
        assert result.exit_code == 1
        assert "12 images lie at one position, though SliceLocation runs from -30 to 18.4" in result.output
        assert "ImagePositionPatient" in result.output


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notgz.nii.gz", "is not compressed; rename it to notgz.nii"),
        ("isgz.nii", "is compressed by gzip.*rename it to isgz.nii.gz"),
        ("alone.hdr", "its data file alone.img is missing"),
    ],
)
def test_messages_of_nifti_name_cause_and_cure(name: str, text: str) -> None:
    with pytest.raises(GaussianMRIError, match=rf"{name} .*{text}"):
        read_stacks(case("17") / name)


def test_a_zero_sform_leaves_the_qform() -> None:
    (stack,) = read_stacks(case("17") / "szero.nii")
    assert stack.pixel_spacing == pytest.approx((0.8, 0.8)) and stack.spacing == pytest.approx(4.4)
    assert "qform was used" in stack.notes[0]


def test_a_modality_lut_is_applied() -> None:
    assert read_stacks(case("18"))[0].pixels.max() == 2817


def test_sform_and_qform_that_differ_are_remarked() -> None:
    (stack,) = read_stacks(case("19") / "c.nii")
    assert "qform and sform differ by 22.9 degrees" in stack.notes[0]
    assert np.degrees(np.arccos(abs(stack.normal[2]))) == pytest.approx(34.4, abs=0.1)


def test_bits_above_the_stored_ones_mean_nothing() -> None:
    pixels = read_stacks(case("21"))[0].pixels
    assert (pixels.min(), pixels.max()) == (0, 939)


def test_left_anterior_superior_nrrd() -> None:
    (stack,) = read_stacks(case("22"))
    k, j, i = np.unravel_index(np.argmax(stack.pixels), stack.pixels.shape)
    np.testing.assert_allclose((stack.ijk_to_ras[k] @ [i, j, 0, 1])[:3], [-12.2, -18.1, 34], atol=1e-6)
