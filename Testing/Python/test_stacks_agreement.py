"""What may be fitted together: one patient, place and contrast; what is refused, and what is only remarked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from dicom_files import ENHANCED_MR, enhanced, save, series
from pydicom.dataset import Dataset

import GaussianMRILib.fitting
from GaussianMRILib.baselines import LinearInterpolator
from GaussianMRILib.cli import main
from GaussianMRILib.cli.app import load_stacks
from GaussianMRILib.cli.evaluate import _note_repeats
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.fitting import Fitter
from GaussianMRILib.fitting.problem import Problem
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.stacks import (
    SliceStack,
    apart,
    belonging_together,
    check_same_contrast,
    check_same_frame,
    check_same_patient,
    copies,
    read_stacks,
    why_apart,
)
from GaussianMRILib.stacks.agreement import without_repeats
from GaussianMRILib.writers import write_dicom_series


def pair(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> list[SliceStack]:
    """Two series of one patient, study and frame unless the tags say otherwise, named A and B, of other noise."""
    series(folder / "a", SeriesDescription="A", **first)
    series(
        folder / "b", **({"SeriesDescription": "B", "seed": 2, "SeriesInstanceUID": "5.5", "SeriesNumber": 4} | second)
    )
    stacks = read_stacks(folder)
    assert [stack.name for stack in stacks] == ["A", "B"]
    return stacks


def pose(stacks: list[SliceStack], **options: Any) -> Problem:
    return Problem.pose(stacks, "fast", 0, "cpu", None, **options)


# ---- frames


def test_frames_of_one_study_are_trusted_on_request(tmp_path: Path, caplog) -> None:
    stacks = pair(tmp_path, {}, {"FrameOfReferenceUID": "1.2.99"})
    with pytest.raises(GaussianMRIError, match=r"2 different frames.*A .*B .*same_frame=True.*--same-frame"):
        pose(stacks)
    with caplog.at_level(logging.INFO, logger="GaussianMRI"):
        problem = pose(stacks, same_frame=True)
    assert "1.2.99" in problem.report["same_frame"] and "trusted" in problem.report["same_frame"]
    assert "trusted" in caplog.text
    # Every later step finds one frame; the caller's stacks stay as they are.
    assert {stack.frame_of_reference for stack in problem.stacks} == {"1.2.5"}
    assert check_same_frame(problem.stacks) is None
    assert [stack.frame_of_reference for stack in stacks] == ["1.2.5", "1.2.99"]
    with pytest.raises(GaussianMRIError, match="frames"):
        LinearInterpolator(stacks)
    assert "same_frame" not in pose(stacks[:1], same_frame=True).report


def test_fitter_passes_the_options_on(tmp_path: Path) -> None:
    stacks = pair(tmp_path, {"EchoTime": 20}, {"EchoTime": 100, "FrameOfReferenceUID": "1.2.99"})
    with pytest.raises(GaussianMRIError, match="frames"):
        Fitter(stacks, preset="paper")
    with pytest.raises(GaussianMRIError, match="EchoTime"):
        Fitter(stacks, preset="paper", same_frame=True)
    Fitter(stacks, preset="paper", same_frame=True, any_contrast=True)


def test_the_command_has_the_options_and_names_them(tmp_path: Path, monkeypatch) -> None:
    pair(tmp_path / "in", {"EchoTime": 20}, {"EchoTime": 100, "FrameOfReferenceUID": "1.2.99"})
    arguments = ["fit", str(tmp_path / "in"), "-o", str(tmp_path / "f.npz"), "--preset", "paper"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1 and "another frame of reference" in result.output
    result = CliRunner().invoke(main, [*arguments, "--stack", "1", "--stack", "2"])
    assert result.exit_code == 1 and "--same-frame" in result.output
    result = CliRunner().invoke(main, [*arguments, "--same-frame"])
    assert result.exit_code == 1 and "EchoTime 20 and 100 ms" in result.output

    def given(stacks: list[SliceStack], **options: object) -> None:
        raise GaussianMRIError(f"{len(stacks)} stacks, {options['same_frame']}, {options['any_contrast']}")

    monkeypatch.setattr(GaussianMRILib.fitting, "Fitter", given)
    result = CliRunner().invoke(main, [*arguments, "--same-frame", "--any-contrast"])
    assert "2 stacks, True, True" in result.output
    both = [*arguments, "--stack", "1", "--stack", "2"]
    assert "2 stacks, False, False" in CliRunner().invoke(main, both).output


def test_frames_of_unknown_or_different_studies_are_never_trusted(tmp_path: Path) -> None:
    apart_in_time = pair(tmp_path, {}, {"FrameOfReferenceUID": "1.2.99", "StudyInstanceUID": "8.8"})
    with pytest.raises(GaussianMRIError, match=r"several studies"):
        check_same_frame(apart_in_time, same_frame=True)
    with pytest.raises(GaussianMRIError, match=r"2 different frames") as error:
        check_same_frame(apart_in_time)
    assert "same_frame" not in str(error.value)
    unknown = [replace(stack, source={}) for stack in apart_in_time]
    with pytest.raises(GaussianMRIError, match="not known to be of one study"):
        check_same_frame(unknown, same_frame=True)


# ---- patients


@pytest.mark.parametrize(
    ("tags", "what"),
    [({"PatientID": "OTHER-ID"}, "patients"), ({"StudyInstanceUID": "8.8"}, "studies")],
)
def test_patients_and_studies_are_kept_apart_and_not_named(tmp_path: Path, tags, what: str) -> None:
    stacks = pair(tmp_path, {}, tags)
    with pytest.raises(GaussianMRIError, match=rf"2 different {what}: A \| B") as error:
        pose(stacks, same_frame=True, any_contrast=True)
    assert "SECRET" not in str(error.value) and "OTHER-ID" not in str(error.value)
    nifti = SliceStack.from_array(stacks[0].pixels, stacks[0].ijk_to_ras, thickness=3.0)
    check_same_patient([stacks[0], nifti])


# ---- contrast


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ({"EchoTime": 95}, {"EchoTime": 25}, "EchoTime 95 and 25 ms"),
        ({"RepetitionTime": 560}, {"RepetitionTime": 3000}, "RepetitionTime 560 and 3000 ms"),
        ({"ScanningSequence": "SE"}, {"ScanningSequence": "IR"}, "ScanningSequence SE and IR"),
        ({"ScanningSequence": "SE"}, {"ScanningSequence": ["SE", "IR"]}, "ScanningSequence SE and IR/SE"),
        ({"SequenceName": "*tse2d1_15"}, {"SequenceName": "*fl2d1"}, "SequenceName tse and fl"),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
            "ImageType magnitude and phase",
        ),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]},
            "ImageType magnitude and diffusion",
        ),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "MPR"]},
            {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
            "ImageType acquired and reformatted",
        ),
        (  # DERIVED alone says nothing
            {"ImageType": ["DERIVED", "SECONDARY", "OTHER"]},
            {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "REFORMATTED"]},
            "ImageType acquired and reformatted",
        ),
        ({}, {"ImageType": ["DERIVED", "SECONDARY", "MPR", "CSA MPR", "M"]}, "ImageType acquired and reformatted"),
        ({}, {"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "ImageType acquired and projection"),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}, "b-value 0 and 800"),
        ({}, {"ContrastBolusAgent": "Gadovist"}, "contrast agent absent and present"),
        ({"InversionTime": 160}, {"InversionTime": 2500}, "InversionTime 160 and 2500"),
        ({"ScanOptions": "PFP"}, {"ScanOptions": ["PFP", "FS"]}, "fat suppression absent and present"),
        ({"ScanOptions": "FS"}, {"ScanOptions": ""}, "fat suppression present and absent"),
        ({"ScanOptions": ["IR", "WE"]}, {"ScanOptions": "PFP"}, "fat suppression present and absent"),
        (
            {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"], "ComplexImageComponent": "MAGNITUDE"},
            {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"], "ComplexImageComponent": "PHASE"},
            "ImageType diffusion and phase",
        ),
        (
            {"SpectrallySelectedSuppression": "FAT_AND_WATER"},
            {"SpectrallySelectedSuppression": "NONE"},
            "fat suppression present and absent",
        ),
        (
            {"SequenceVariant": ["SK", "MTC"]},
            {"SequenceVariant": ["SK", "SP"]},
            "magnetisation transfer present and absent",
        ),
        ({}, {"Modality": "CT"}, "Modality MR and CT"),
    ],
)
def test_other_contrasts_are_refused_with_the_values(tmp_path: Path, first, second, text: str) -> None:
    stacks = pair(tmp_path, first, second)
    with pytest.raises(GaussianMRIError, match=rf"A and B show different contrasts.*{text}.*--any-contrast"):
        pose(stacks)
    assert len(pose(stacks, any_contrast=True).stacks) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"EchoTime": 110, "RepetitionTime": 3203}, {"EchoTime": 95, "RepetitionTime": 4455}),
        ({"RepetitionTime": 2400}, {"RepetitionTime": 6500}),  # recovered in both
        ({"SequenceName": "*tse2d1_15"}, {"SequenceName": "*tseR2d1rs21"}),
        ({"EchoTime": 95}, {"EchoTime": 0}),  # unknown
        ({"EchoTime": 95}, {}),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 5.0}),
        ({"ContrastBolusAgent": "NONE"}, {}),
        ({"ScanningSequence": "RM"}, {"ScanningSequence": "SE"}),
        ({"ScanningSequence": ["SE", "IR"]}, {"ScanningSequence": ["IR", "SE"]}),
        ({"ScanOptions": "FS"}, {}),  # taken from the header
        ({"ScanOptions": "FS"}, {"ScanOptions": "OTHER"}),
        ({"ScanOptions": ["PFP", "FS"]}, {"ScanOptions": "WE"}),
        ({"ScanOptions": ["PFP", "SP"]}, {"ScanOptions": ""}),
        ({"ScanOptions": ["FS", "PFP"]}, {"SpectrallySelectedSuppression": "FAT"}),
        ({"SequenceVariant": "MTC"}, {}),
        ({"SequenceVariant": ["SK", "SP"]}, {"SequenceVariant": "OSP"}),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "M"]}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "MPR"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "M"]}),
    ],
)
def test_what_differs_from_series_to_series_is_accepted(tmp_path: Path, first, second) -> None:
    check_same_contrast(pair(tmp_path, first, second))


def test_enhanced_files_say_their_contrast_in_functional_groups(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 99, (3, 6, 5)).astype(np.uint16)
    frames = [{"position": (0, 0, 4.0 * k), "echo_time": 90.0} for k in range(3)]
    dataset = enhanced(noise, frames, ContrastBolusAgentSequence=[Dataset()], EchoPulseSequence="SPIN")
    dataset.EchoPlanarPulseSequence = "YES"
    timing = Dataset()
    timing.RepetitionTime = 3500.0
    dataset.SharedFunctionalGroupsSequence[0].MRTimingAndRelatedParametersSequence = [timing]
    modifier = Dataset()
    modifier.InversionRecovery = "YES"
    modifier.SpectrallySelectedExcitation = "WATER"
    dataset.SharedFunctionalGroupsSequence[0].MRModifierSequence = [modifier]
    transfer = Dataset()
    transfer.MagnetizationTransfer = "OFF_RESONANCE"
    dataset.SharedFunctionalGroupsSequence[0].MRImagingModifierSequence = [transfer]
    assert dataset.SOPClassUID == ENHANCED_MR
    save(dataset, tmp_path / "e.dcm")
    (stack,) = read_stacks(tmp_path)
    said = stack.source["contrast"]
    assert (said["echo_time"], said["repetition_time"]) == (90.0, 3500.0)
    assert said["scanning_sequence"] == "EP/IR/SE"
    assert said["contrast_agent"] is True
    assert said["fat_suppression"] is True and said["magnetisation_transfer"] is True
    dataset.SharedFunctionalGroupsSequence[0].MRModifierSequence[0].SpectrallySelectedExcitation = "NONE"
    dataset.SpectrallySelectedSuppression = transfer.MagnetizationTransfer = "NONE"
    (stack,) = read_stacks(save(dataset, tmp_path / "e.dcm"))
    said = stack.source["contrast"]
    assert said["fat_suppression"] is False and said["magnetisation_transfer"] is False


# ---- one measurement


def made_of(*uids: str) -> dict[str, Any]:
    sources = []
    for uid in uids:
        source = Dataset()
        source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = ENHANCED_MR, uid
        sources.append(source)
    return {"SourceImageSequence": sources}


def test_what_was_computed_from_a_series_is_no_second_one(tmp_path: Path) -> None:
    stacks = pair(tmp_path / "1", {"SOPInstanceUID": "7.1", "count": 1}, made_of("7.9", "7.1"))
    assert belonging_together(stacks) == [[0], [1]] and "computed from" in why_apart(*stacks)
    with pytest.raises(GaussianMRIError, match=r"A and B are one measurement.*--any-contrast"):
        pose(stacks)
    assert len(pose(stacks, any_contrast=True).stacks) == 2
    # What two acquisitions name in common may be the localiser; what two reformats do is what they show.
    common = pair(tmp_path / "2", made_of("7.1"), made_of("7.1"))
    assert belonging_together(common) == [[0, 1]]
    reformatted = {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}
    assert belonging_together(pair(tmp_path / "5", {}, made_of("7.9") | reformatted)) == [[0, 1]]  # of a series elsewhere
    assert belonging_together(pair(tmp_path / "3", made_of("7.1") | reformatted, made_of("7.1") | reformatted)) == [[0], [1]]
    assert belonging_together(pair(tmp_path / "4", made_of("7.1") | reformatted, made_of("7.2") | reformatted)) == [[0, 1]]


def test_an_enhanced_file_names_its_sources_in_functional_groups(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 99, (2, 6, 5)).astype(np.uint16)
    dataset = enhanced(noise, [{"position": (0, 0, 4.0 * k)} for k in range(2)])
    for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        derivation = Dataset()
        derivation.SourceImageSequence = made_of(f"7.{k}")["SourceImageSequence"]
        frame.DerivationImageSequence = [derivation]
    save(dataset, tmp_path / "e.dcm")
    assert read_stacks(tmp_path)[0].source["computed_from"] == ["7.0", "7.1"]


def test_an_exported_series_is_not_fused_with_its_source(tmp_path: Path) -> None:
    stack = read_stacks(series(tmp_path / "a"))[0]
    write_dicom_series(tmp_path / "b", stack.pixels[1:], stack.planes()[1:], source=stack)
    (tmp_path / "b" / "IM0001.dcm").rename(tmp_path / "b" / "last.dcm")
    stacks = read_stacks(tmp_path)
    assert belonging_together(stacks) == [[0], [1]]
    assert why_apart(*reversed(stacks)) == why_apart(*stacks) != ""


def test_copies_of_a_series_are_one_measurement(tmp_path: Path, caplog) -> None:
    stacks = pair(tmp_path, {}, {"seed": 1, "RescaleSlope": 2, "RescaleIntercept": -7})
    assert stacks[1].pixels.max() > 1.5 * stacks[0].pixels.max()
    assert copies(stacks) == {1: 0} and copies([stacks[0].subset([1, 2]), *stacks]) == {0: 1, 2: 1}
    problem = pose(stacks)
    assert [stack.name for stack in problem.stacks] == ["A"]
    assert problem.report["warnings"] == ["left out, because its slices are those of A: B"]
    assert "Left out, because its slices are those of A: B" in caplog.text
    assert [stack.name for stack in pose([stacks[0], stacks[0]], any_contrast=True).stacks] == ["A"]
    lines = CliRunner().invoke(main, ["inspect", str(tmp_path)]).stdout.splitlines()
    assert "Stack 2: its slices are those of stack 1; a fit takes them once" in lines


def test_an_acquisition_that_was_repeated_is_no_copy(tmp_path: Path) -> None:
    """With noise of a tenth of the contrast, and of a sixtieth, less than images have."""
    stack = read_stacks(series(tmp_path, 3))[0]
    random = np.random.default_rng(3)
    image = random.normal(100, 30, (3, 64, 64)).astype(np.float32)

    def taken(pixels: np.ndarray, millimetres: float = 0.0) -> SliceStack:
        poses = stack.ijk_to_ras.copy()
        poses[:, 0, 3] += millimetres
        return replace(stack, pixels=pixels, ijk_to_ras=poses)

    for noise in (3.0, 0.5):
        noisy = [image + random.normal(0, noise, image.shape).astype(np.float32) for _ in range(2)]
        assert copies([taken(pixels) for pixels in noisy]) == {}
    assert copies([taken(image), taken(np.round(2 * image))]) == {1: 0}  # fewer grey levels
    head = np.where(np.arange(64) % 32 < 16, -1000, 40).astype(np.float32) * np.ones_like(image)
    scans = [taken(head + random.normal(0, 3, head.shape).astype(np.float32)) for _ in range(2)]
    assert copies([replace(scan, source={"contrast": {"modality": "CT"}}) for scan in scans]) == {}  # much of it is air
    assert copies([taken(image), taken(image, 0.5)]) == {} and copies([taken(image), taken(-image)]) == {}
    assert copies([taken(image), taken(image[[0, 2, 1]])]) == {}


def test_a_stack_that_is_chosen_twice_is_read_once(tmp_path: Path) -> None:
    series(tmp_path)
    assert len(load_stacks([tmp_path], [1, 1])) == 1


# ---- nothing in it, nothing in common


def test_an_empty_stack_is_left_out_with_a_warning(tmp_path: Path, caplog) -> None:
    stacks = pair(tmp_path, {}, {})
    empty = replace(stacks[1], pixels=np.zeros(stacks[1].shape, np.float32))
    problem = pose([stacks[0], empty])
    assert [stack.name for stack in problem.stacks] == ["A"]
    assert "same value: B" in problem.report["warnings"][0] and "same value: B" in caplog.text
    assert [facts["name"] for facts in problem.report["stacks"]] == ["A"]
    with pytest.raises(GaussianMRIError):
        pose([empty])
    assert "warnings" not in pose(stacks).report


def test_stacks_without_a_place_in_common_are_fitted_with_a_warning(tmp_path: Path, caplog) -> None:
    stacks = pair(tmp_path, {}, {})
    far = stacks[1].ijk_to_ras.copy()
    far[:, 2, 3] += 500
    far_away = replace(stacks[1], ijk_to_ras=far, source={**stacks[1].source, "series_uid": "2.25.7"})
    problem = pose([stacks[0], far_away])
    assert len(problem.stacks) == 2 and "A | B" in problem.report["warnings"][0]
    assert "no place in common" in caplog.text
    assert [[s.name for s in group] for group in apart([*stacks, far_away])] == [["A", "B"], ["B"]]


def test_a_chain_of_stacks_hangs_together(tmp_path: Path) -> None:
    stack = replace(read_stacks(series(tmp_path))[0], source={})
    chain = []
    for n in range(3):
        poses = stack.ijk_to_ras.copy()
        poses[:, 2, 3] += 10 * n  # each reaches 3 mm into the next
        chain.append(replace(stack, ijk_to_ras=poses, name=str(n)))
    assert len(apart(chain)) == 1 and len(apart(chain[::2])) == 2


def test_parts_of_one_series_hang_together(tmp_path: Path) -> None:
    stack = read_stacks(series(tmp_path))[0]  # as the blocks of slices at discs that a fit of some of them gets
    far = stack.ijk_to_ras.copy()
    far[:, 2, 3] += 500
    problem = pose([stack, replace(stack, ijk_to_ras=far)])
    assert len(problem.stacks) == 2 and "warnings" not in problem.report


# ---- real studies


def test_real_series_of_one_contrast_are_accepted_and_others_refused(
    extracted: Callable[[str], Path],
) -> None:
    stacks = {stack.name: stack for stack in read_stacks(extracted("mr_multi/lumbar_hitachi.tar.xz"))}
    assert sorted(stacks) == ["STIR SAG", "T1 AX", "T1 SAG", "T2 AX", "T2 SAG"]
    problem = pose([stacks["T2 SAG"], stacks["T2 AX"]])
    assert "warnings" not in problem.report
    check_same_contrast([stacks["T1 SAG"], stacks["T1 AX"]])
    for one, other in (("T1 SAG", "T2 AX"), ("STIR SAG", "T2 AX"), ("T2 SAG", "T1 SAG")):
        with pytest.raises(GaussianMRIError, match="different contrasts"):
            pose([stacks[one], stacks[other]])
    prostates = [read_stacks(extracted(f"mr_multi/prostate_{which}.tar.xz")) for which in "ab"]
    for prostate, count in zip(prostates, (3, 4), strict=True):
        problem = pose(prostate)
        assert len(problem.stacks) == count and "warnings" not in problem.report
    with pytest.raises(GaussianMRIError, match="2 different patients"):
        pose([prostates[0][0], prostates[1][0]])


def test_parts_of_a_region_are_no_repeats() -> None:
    stacks = axial_and_sagittal((0, 20))
    upper = stacks[0]
    assert without_repeats(stacks, upper.planes()) == 8 * [stacks]
    part = upper.subset(range(4))
    assert without_repeats([part, upper], upper.planes()) == 8 * [[upper]]  # it shows more of the planes
    assert without_repeats([part, upper], []) == [] and without_repeats([part], upper.planes()) == 8 * [[part]]


def test_a_repeat_stays_where_it_alone_shows_a_plane() -> None:
    lower, upper, _ = axial_and_sagittal((0, 9))  # from -1.5 to 22.5 and from 7.5 to 31.5 mm
    low, middle, high = (
        ImagePlane.from_axes((15, 15, z), (1, 0, 0), (0, 1, 0), spacing=(1, 1), shape=(32, 32)) for z in (3, 15, 27)
    )
    assert without_repeats([lower, upper], [low, middle]) == [[lower], [lower]]
    assert without_repeats([lower, upper], [middle, high]) == [[upper], [upper]]
    assert without_repeats([lower, upper], [low, middle, high]) == [[lower], [lower], [upper]]
    across = ImagePlane.from_axes((15, 15, 15), (0, 1, 0), (0, 0, 1), spacing=(0.25, 0.25), shape=(128, 128))
    assert without_repeats([lower, upper], [across]) == [[lower, upper]]  # a part of it is in each alone


def axial_and_sagittal(heights: tuple[float, ...]) -> list[SliceStack]:
    """Axial stacks of 8 slices 3 mm apart from some heights on, and a sagittal one through them."""
    stacks = []
    for height in heights:
        affine = np.diag([2.0, 2.0, 3.0, 1.0])
        affine[2, 3] = height
        stacks.append(SliceStack.from_array(np.ones((8, 16, 16), np.float32), affine, name=f"axial {height}"))
    affine = np.array([[0, 0, 3, 0], [2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1.0]])
    return [*stacks, SliceStack.from_array(np.ones((8, 16, 16), np.float32), affine, name="sagittal")]


def test_an_evaluation_says_that_it_averages_two_acquisitions(capsys: pytest.CaptureFixture[str]) -> None:
    """Of their Gaussians it does not: a fit registers them."""
    one = axial_and_sagittal((0,))[0]
    _note_repeats(("fast", "linear"), [one, replace(one, name="repeat")], one.planes())
    assert capsys.readouterr().err.startswith("linear: the mean of repeat and what lies in its place.")
    stacks = axial_and_sagittal((0, 9))[:2]
    planes = [stacks[0].planes()[1], stacks[0].planes()[5], stacks[1].planes()[6]]
    _note_repeats(("linear",), stacks, planes)
    assert capsys.readouterr().err.startswith("linear: the mean of axial 9 and what lies in its place.")
    _note_repeats(("linear",), stacks, [planes[0], planes[2]])  # which one of them shows, each
    _note_repeats(("fast",), [one, replace(one, name="repeat")], one.planes())
    _note_repeats(("linear",), [one], one.planes())
    assert capsys.readouterr().err == ""
