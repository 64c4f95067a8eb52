"""Which images are one stack, and which stacks belong together: with tolerances, and said where slices are lost."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import enhanced, image, save, series
from pydicom.dataset import Dataset

from GaussianMRILib.cli import main
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.fitting.problem import Problem
from GaussianMRILib.stacks import SliceStack, belonging_together, read_stacks, why_apart

NOISE = np.random.default_rng(5).integers(1, 3000, (6, 5)).astype(np.uint16)


def at(z: float, x: float = -10.0) -> tuple[float, float, float]:
    return (x, -20.0, z)


def sizes(stacks: list[SliceStack]) -> list[int]:
    return [stack.shape[0] for stack in stacks]


# ---- one stack or several


@pytest.mark.parametrize("spacing", [0.78125, 0.46875, 0.15625, 0.53125])
@pytest.mark.parametrize("noise", [0.0, 1e-8, 1e-5])
def test_a_spacing_on_a_rounding_tie_is_one_stack(tmp_path: Path, spacing: float, noise: float) -> None:
    random = np.random.default_rng(int(1e5 * spacing))
    turn = np.radians(12)
    axes = np.array([1, 0, 0, 0, np.cos(turn), np.sin(turn)])
    normal = np.cross(axes[:3], axes[3:])
    for k in range(12):
        own = [f"{v:.12f}" for v in axes + random.normal(0, noise, 6)]
        save(image(NOISE, 4.4 * k * normal, own, PixelSpacing=[spacing] * 2), tmp_path / f"{k}.dcm")
    (stack,) = read_stacks(tmp_path)
    assert stack.shape[0] == 12 and stack.spacing == pytest.approx(4.4, abs=1e-3) and not stack.notes


@pytest.mark.parametrize(
    ("tag", "values", "step"),
    [
        ("DiffusionBValue", [0.0, 1000.0], 3.5),
        ("EchoTime", [10.0, 90.0], 1.3),
        ("EchoTime", [10.0, 90.0], 2.0),  # evenly between the others
        ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]], 2.0),
        ("TemporalPositionIdentifier", [1, 2], 0.05),
        ("TemporalPositionIdentifier", [1, 2], 1.5),
        ("TemporalPositionIdentifier", [1, 2], 2.0),
        ("AcquisitionNumber", [1, 2], 1.5),
        ("TriggerTime", [20.0, 520.0], 0.3),
        ("InversionTime", [200.0, 900.0], 0.02),
    ],
)
def test_contrasts_at_shifted_positions(tmp_path: Path, tag: str, values: list[Any], step: float) -> None:
    for n, value in enumerate(values):
        for k in range(6):
            dataset = image(NOISE, at(4.0 * k + n * step), InstanceNumber=10 * n + k, **{tag: value})
            save(dataset, tmp_path / f"{n}{k}.dcm")
    stacks = read_stacks(tmp_path)
    assert sizes(stacks) == [6, 6] and all(stack.spacing == pytest.approx(4) for stack in stacks)
    assert len(belonging_together(stacks)) == 2 and why_apart(*stacks)
    with pytest.raises(GaussianMRIError, match="different contrasts"):
        Problem.pose(stacks, "fast", 0, "cpu", None)


@pytest.mark.parametrize("step", [0.05, 1.5])
def test_volumes_that_nothing_but_their_numbers_tells_apart(tmp_path: Path, step: float) -> None:
    for n in range(3):
        for k in range(6):
            dataset = image(NOISE + np.uint16(n), at(4.0 * k + n * step), InstanceNumber=6 * n + k + 1)
            save(dataset, tmp_path / f"{n}{k}.dcm")
    stacks = read_stacks(tmp_path)
    assert sizes(stacks) == [6, 6, 6] and [stack.name[-8:] for stack in stacks] == ["repeat 1", "repeat 2", "repeat 3"]
    for n, stack in enumerate(stacks):
        assert np.all(stack.pixels == NOISE + n) and stack.spacing == pytest.approx(4)


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "values"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", [0, 1000]),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", [[0, 8, 0, 0], [1000001000, 8, 0, 0]]),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", [0.0, 1000.0]),
    ],
)
def test_private_b_values(tmp_path: Path, group: int, creator: str, element: int, vr: str, values: list[Any]) -> None:
    for n, value in enumerate(values):
        for k in range(4):
            dataset = image(NOISE, at(4.0 * k + 3.5 * n))
            dataset.private_block(group, creator, create=True).add_new(element, vr, value)
            save(dataset, tmp_path / f"{n}{k}.dcm")
    stacks = read_stacks(tmp_path)
    assert [stack.name for stack in stacks] == ["T2, axial, b-value 0", "T2, axial, b-value 1000"]
    assert "b-value 0 and 1000" in why_apart(*stacks)


def test_numbers_of_one_contrast_may_have_noise(tmp_path: Path) -> None:
    for k in range(6):
        tags = {"EchoTime": 92.0 + 1e-5 * k, "DiffusionBValue": 1000.0 + k, "RepetitionTime": 3000 + 0.1 * k}
        save(image(NOISE, at(4.0 * k), **tags), tmp_path / f"{k}.dcm")
    assert sizes(read_stacks(tmp_path)) == [6]


def test_odd_and_even_slices_of_two_acquisitions_are_one_stack(tmp_path: Path) -> None:
    for k in range(8):
        tags = {"AcquisitionNumber": 1 + k % 2, "InversionTime": 100.0 + k, "TriggerTime": 50.0 * (k % 2)}
        save(image(NOISE, at(4.0 * k), **tags), tmp_path / f"{k}.dcm")
    (stack,) = read_stacks(tmp_path)
    assert stack.spacing == 4.0


def test_time_points_that_move_in_the_plane_and_turn(tmp_path: Path) -> None:
    for n in range(3):
        turn = np.radians(0.3 * n)
        axes = [np.cos(turn), np.sin(turn), 0, -np.sin(turn), np.cos(turn), 0]
        for k in range(5):
            tags = {"TemporalPositionIdentifier": n + 1, "InstanceNumber": 5 * n + k + 1}
            save(image(NOISE, at(4.0 * k, -10 + 0.26 * n), axes, **tags), tmp_path / f"{n}{k}.dcm")
    stacks = read_stacks(tmp_path)
    assert sizes(stacks) == [5, 5, 5] and len(belonging_together(stacks)) == 3


def test_a_series_uid_for_every_slice(tmp_path: Path, caplog) -> None:
    for k in range(5):
        series(tmp_path / str(k), 1, SeriesInstanceUID=f"9.{k}", ImagePositionPatient=list(at(4.0 * k)))
    (stack,) = read_stacks(tmp_path)
    assert stack.shape[0] == 5 and "5 series of one slice each" in caplog.text
    # Without a frame of reference nobody knows.
    for k in range(5):
        series(
            tmp_path / str(k), 1, SeriesInstanceUID=f"9.{k}", ImagePositionPatient=list(at(4.0 * k)),
            FrameOfReferenceUID=None,
        )  # fmt: skip
    caplog.clear()
    assert sizes(read_stacks(tmp_path)) == [1] * 5 and "stay apart" in caplog.text


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_stacks_of_one_enhanced_file_by_their_id(tmp_path: Path, shift: float) -> None:
    frames = [{"position": at(4.0 * k + n * shift, -10 + 0.2 * n)} for n in range(2) for k in range(4)]
    dataset = enhanced(np.stack([NOISE] * 8), frames)
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        content = Dataset()
        content.StackID, content.InStackPositionNumber = str(1 + number // 4), 1 + number % 4
        group.FrameContentSequence = [content]
    save(dataset, tmp_path / "e.dcm")
    stacks = read_stacks(tmp_path)
    assert sizes(stacks) == [4, 4] and all(stack.spacing == 4 for stack in stacks)
    assert [stack.name[-7:] for stack in stacks] == ["stack 1", "stack 2"]
    assert len(belonging_together(stacks)) == 1  # one contrast, two places


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (({"PatientID": "A"}, {"PatientID": "B"}), "another patient"),
        (({"StudyInstanceUID": "1.1"}, {"StudyInstanceUID": "2.2"}), "another study"),
        (({"PatientID": "", "PatientName": "DOE^J"}, {"PatientID": None, "PatientName": "ROE^J"}), "another patient"),
    ],
)
def test_patients_and_studies_under_one_series_uid_stay_apart(tmp_path: Path, own, text: str, caplog) -> None:
    """Their slices lie between each other, where nothing else tells them apart."""
    for n, tags in enumerate(own):
        for k in range(4):
            place = at(4.0 * k + 2 * n)
            save(image(NOISE + np.uint16(n), place, InstanceNumber=4 * n + k, **tags), tmp_path / f"{n}{k}.dcm")
    stacks = read_stacks(tmp_path)
    assert sizes(stacks) == [4, 4] and all(stack.spacing == pytest.approx(4) for stack in stacks)
    assert belonging_together(stacks) == [[0], [1]] and text in why_apart(*stacks)
    assert "one Series Instance UID; they are kept apart" in caplog.text and "ROE" not in caplog.text


def test_images_that_do_not_name_the_patient_go_with_those_that_do(tmp_path: Path) -> None:
    for k in range(4):
        tags = {"PatientID": "A"} if k % 2 else {"PatientID": None, "PatientName": None}
        save(image(NOISE, at(4.0 * k), InstanceNumber=k, **tags), tmp_path / f"{k}.dcm")
    assert sizes(read_stacks(tmp_path)) == [4]


def test_names_of_patients_count_where_there_is_no_id_whatever_their_signs(tmp_path: Path) -> None:
    series(tmp_path / "a", PatientID="", PatientName="DOE^JANE", StudyInstanceUID=None)
    for n, name in ((1, "Doe^Jane^^"), (2, "ROE^JANE")):
        tags = {"PatientID": "", "StudyInstanceUID": None, "SeriesInstanceUID": f"5.{n}", "SeriesNumber": 4 + n}
        series(tmp_path / f"{n}", PatientName=name, **tags)
    stacks = read_stacks(tmp_path)
    assert belonging_together(stacks) == [[0, 1], [2]] and why_apart(stacks[0], stacks[2]) == "another patient"
    with pytest.raises(GaussianMRIError, match="2 different patients"):
        Problem.pose(stacks, "fast", 0, "cpu", None)


@pytest.mark.parametrize("packed", [False, True])
def test_components_of_ge_are_told_apart_by_its_private_element(tmp_path: Path, packed: bool) -> None:
    """Magnitude, phase, real and imaginary part of each slice in one series, with one Image Type."""
    for k in range(16):
        tags = {"InstanceNumber": k + 1, "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}
        dataset = image(NOISE, at(4.0 * (k // 4)), **tags)
        block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
        block.add_new(0x2F, *(("UN", bytes([k % 4, 0])) if packed else ("SS", k % 4)))
        save(dataset, tmp_path / f"{k}.dcm")
    stacks = read_stacks(tmp_path)
    assert sizes(stacks) == [4] * 4 and len(belonging_together(stacks)) == 4
    assert sorted(stack.name for stack in stacks) == sorted(
        f"T2, axial, {name}" for name in ("magnitude", "phase", "real", "imaginary")
    )


@pytest.mark.parametrize(("third", "groups"), [("OTHER", [[0, 1], [2]]), ("M", [[0, 1], [2]])])
def test_what_was_computed_is_not_fused_with_what_was_acquired(tmp_path: Path, third: str, groups) -> None:
    series(tmp_path / "a", ImageType=["ORIGINAL", "PRIMARY", third])
    series(tmp_path / "b", ImageType=["ORIGINAL", "PRIMARY", "OTHER"], **OTHER)
    projection = {"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"], "SeriesInstanceUID": "6.6", "SeriesNumber": 5}
    series(tmp_path / "c", **projection)
    assert belonging_together(read_stacks(tmp_path)) == groups


def test_a_series_of_labels_is_left_out_beside_images_and_read_alone(tmp_path: Path, caplog) -> None:
    series(tmp_path / "a", 4)
    labels = np.zeros((12, 12), np.uint16)
    labels[2:10, 2:7], labels[2:10, 7:10] = 1, 2
    tags = {"SeriesInstanceUID": "7.7", "SeriesDescription": "mask", "SeriesNumber": 9}
    files = [
        save(image(labels, at(4.0 * k), InstanceNumber=k + 1, **tags), tmp_path / f"m{k}.dcm") for k in range(4)
    ]
    assert [stack.name for stack in read_stacks(tmp_path)] == ["T2"]
    assert "m0.dcm: mask, a label map by its values" in caplog.text
    (alone,) = read_stacks(files)
    assert alone.name == "mask" and "its values look like labels, not like an image" in alone.notes
    (tmp_path / "only").mkdir()
    for file in files:
        file.rename(tmp_path / "only" / file.name)
    assert [stack.name for stack in read_stacks(tmp_path / "only")] == ["mask"]


def test_a_foreign_slice_in_the_series(tmp_path: Path) -> None:
    series(tmp_path, 6, EchoTime=90.0)
    save(image(NOISE, at(31.0), EchoTime=12.0), tmp_path / "z.dcm")
    stacks = read_stacks(tmp_path)
    assert sorted(sizes(stacks)) == [1, 6] and len(belonging_together(stacks)) == 2


def test_two_images_under_one_uid_are_both_read(tmp_path: Path, caplog) -> None:
    for k in range(3):
        for n in range(2):
            tags = {"SOPInstanceUID": f"1.2.{k}", "InstanceNumber": 3 * n + k}
            save(image(NOISE + np.uint16(n), at(4.0 * k), **tags), tmp_path / f"{n}{k}.dcm")
    stacks = read_stacks(tmp_path)
    assert sizes(stacks) == [3, 3] and "different images under one SOP Instance UID" in caplog.text
    assert {float(stack.pixels[0, 0, 0]) for stack in stacks} == {float(NOISE[0, 0]), float(NOISE[0, 0]) + 1}


# ---- what belongs together

OTHER = {"seed": 2, "SeriesDescription": "B", "SeriesInstanceUID": "5.5", "SeriesNumber": 4}


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"PatientID": "OTHER"}, "another patient"),
        ({"StudyInstanceUID": "8.8"}, "another study"),
        ({"FrameOfReferenceUID": "1.2.99"}, "another frame of reference"),
        ({"FrameOfReferenceUID": None}, "no frame of reference"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "SOP class MR image and secondary capture"),
        ({"Modality": "CT"}, "Modality"),
        ({"EchoTime": 20}, "EchoTime"),
        ({"RepetitionTime": 500}, "RepetitionTime"),
        ({"InversionTime": 150}, "InversionTime"),
        ({"SequenceName": "*fl2d1"}, "SequenceName"),
        ({"ImageType": ["DERIVED", "PRIMARY", "M", "T2 MAP"]}, "ImageType magnitude and T2 map"),
        ({"ComplexImageComponent": "PHASE", "ImageType": ["ORIGINAL", "PRIMARY"]}, "ImageType magnitude and phase"),
        ({"DiffusionBValue": 800.0}, "b-value"),
        ({"ContrastBolusAgent": "Gadovist"}, "contrast agent"),
    ],
)
def test_every_key_makes_a_group(tmp_path: Path, tags: dict[str, Any], text: str) -> None:
    common = {
        "EchoTime": 95, "RepetitionTime": 3000, "InversionTime": 2500, "SequenceName": "*tse2d1", "DiffusionBValue": 0.0,
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
    }  # fmt: skip
    series(tmp_path / "a", SeriesDescription="A", **common)
    series(tmp_path / "b", **(common | OTHER))
    series(tmp_path / "c", **(common | OTHER | {"SeriesInstanceUID": "6.6", "SeriesNumber": 5} | tags))
    stacks = read_stacks(tmp_path)
    assert belonging_together(stacks) == [[0, 1], [2]]
    assert text in why_apart(stacks[0], stacks[2])
    assert "OTHER" not in why_apart(stacks[0], stacks[2])


def test_series_without_a_frame_of_reference_are_not_in_one(tmp_path: Path) -> None:
    series(tmp_path / "a", FrameOfReferenceUID=None)
    series(tmp_path / "b", FrameOfReferenceUID=None, **OTHER)
    stacks = read_stacks(tmp_path)
    assert belonging_together(stacks) == [[0], [1]]
    with pytest.raises(GaussianMRIError, match="no frame of reference"):
        Problem.pose(stacks, "fast", 0, "cpu", None)
    assert belonging_together(stacks, same_frame=True) == [[0, 1]]
    assert len(Problem.pose(stacks, "fast", 0, "cpu", None, same_frame=True).stacks) == 2


def test_fit_of_a_folder_takes_one_group(tmp_path: Path, monkeypatch) -> None:
    import GaussianMRILib.fitting

    series(tmp_path / "in" / "a", SeriesDescription="A", EchoTime=90)
    series(tmp_path / "in" / "b", **OTHER, EchoTime=95)
    series(tmp_path / "in" / "c", **(OTHER | {"SeriesDescription": "C", "SeriesInstanceUID": "6"}), EchoTime=9)

    def given(stacks: list[SliceStack], **options: object) -> None:
        raise GaussianMRIError(f"fits {[stack.name for stack in stacks]}")

    monkeypatch.setattr(GaussianMRILib.fitting, "Fitter", given)

    def fit(*options: str, folder: str = "in") -> str:
        arguments = ["fit", str(tmp_path / folder), "-o", str(tmp_path / "f.npz"), *options]
        return CliRunner().invoke(main, arguments).output

    listed = fit()
    assert "2 groups" in listed and "--group 1" in listed and "--group 2" in listed and "--stack N" in listed
    assert "stack 1 A; stack 2 B" in listed and "EchoTime 90 and 9 ms" in listed
    assert "fits ['A', 'B']" in fit("--group", "1") and "fits ['C']" in fit("--group", "2")
    assert "fits ['A', 'C']" in fit("--stack", "1", "--stack", "3")
    assert "fits ['A', 'B', 'C']" in fit("--any-contrast")
    assert "There is no group 3" in fit("--group", "3")
    assert "either --group or --stack" in fit("--group", "1", "--stack", "1")
    assert "fits ['A']" in fit(folder="in/a")
    lines = CliRunner().invoke(main, ["inspect", str(tmp_path / "in")]).output.splitlines()
    assert lines[0].endswith("Group") and [line.split()[-1] for line in lines[2:5]] == ["1", "1", "2"]


def test_slices_in_one_plane_are_not_fitted(tmp_path: Path) -> None:
    for k in range(5):
        save(image(np.roll(NOISE, k, axis=0), at(0), InstanceNumber=k), tmp_path / f"{k}.dcm")
    stacks = read_stacks(tmp_path)
    with pytest.raises(GaussianMRIError, match="All 5 slices lie in one plane"):
        Problem.pose(stacks, "fast", 0, "cpu", None)


# ---- lost slices, and what is left out


def test_a_gap_is_said_without_being_asked(tmp_path: Path, caplog) -> None:
    series(tmp_path, 6)
    (tmp_path / "a03.dcm").unlink()
    result = CliRunner().invoke(main, ["inspect", str(tmp_path)])
    assert "Warning: T2: gap of 8.00 mm after slice 3: 1 missing" in result.output
    assert "Instance Number" not in result.output  # once is enough


@pytest.mark.parametrize("content", [b"", b"\0" * 4000, None])
def test_the_last_slice_is_missed_too(tmp_path: Path, content: bytes | None) -> None:
    paths = series(tmp_path, 6)
    paths[-1].write_bytes(paths[-1].read_bytes()[:-20] if content is None else content)
    output = CliRunner().invoke(main, ["inspect", str(tmp_path)]).output
    assert "Warning: Left out" in output and "a05.dcm" in output


def test_the_header_or_the_other_echo_knows_of_the_last_slice(tmp_path: Path, caplog) -> None:
    series(tmp_path / "a", 5, ImagesInAcquisition=6)
    assert "5 of 6 images of its acquisition" in read_stacks(tmp_path / "a")[0].notes[0]
    for echo in (1, 2):
        series(tmp_path / "b", 6, prefix=str(echo), EchoNumbers=echo, EchoTime=30.0 * echo)
    (tmp_path / "b" / "205.dcm").unlink()
    assert sizes(read_stacks(tmp_path / "b")) == [6, 5]
    assert "5 slices where others of its series have 6" in caplog.text
    for path in series(tmp_path / "c", 6)[:1]:
        path.unlink()
    assert "Instance Number 1 " in read_stacks(tmp_path / "c")[0].notes[0]


def test_many_files_of_a_kind_are_one_line(tmp_path: Path, caplog) -> None:
    series(tmp_path)
    for n in range(7):
        state = image(NOISE, at(0), SOPClassUID="1.2.840.10008.5.1.4.1.1.11.1", Modality="PR")
        save(state, tmp_path / f"p{n}.dcm")
    screen = image(NOISE, at(0), ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"], SeriesInstanceUID="4")
    save(screen, tmp_path / "screen.dcm")
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        assert sizes(read_stacks(tmp_path)) == [4]
    (line,) = [r.getMessage() for r in caplog.records if "presentation" in r.getMessage()]
    assert "p0.dcm" in line and "and 4 others" in line
    assert "a picture of a screen" in caplog.text
    written = image(NOISE, at(0), BurnedInAnnotation="YES", ConversionType="WSD", SeriesInstanceUID="4.1")
    save(written, tmp_path / "key.dcm")
    assert sizes(read_stacks(tmp_path)) == [4]


def test_localisers_are_left_out_visibly(tmp_path: Path) -> None:
    series(tmp_path / "a")
    series(tmp_path / "b", 2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID="7")
    output = CliRunner().invoke(main, ["inspect", str(tmp_path)]).output
    assert "Left out" in output and "localiser" in output


def test_control_characters_never_reach_a_terminal(tmp_path: Path) -> None:
    series(tmp_path / "a", SeriesDescription="T2\x1b[31m\x07 red\u202e", SpecificCharacterSet="ISO_IR 192")
    save(image(NOISE, at(0), Rows=None), tmp_path / "a" / "x\x1b[1m.dcm")
    result = CliRunner().invoke(main, ["inspect", str(tmp_path), "-v"])
    assert "T2 [31m red" in result.output and "x?[1m.dcm" in result.output
    assert not any(c in result.output for c in "\x1b\x07\u202e")
