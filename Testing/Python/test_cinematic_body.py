"""Looks that fit the modality, and scans without what lies around the body."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner
from PIL import Image
from scipy.ndimage import gaussian_filter

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.cinematic.body import keep_body
from GaussianMRILib.cinematic.looks import find_look, looks, modality_warning
from GaussianMRILib.cinematic.picture import render_picture
from GaussianMRILib.cli import main

CT, MR = np.array([-1000.0, 40, 900]), np.array([0.0, 200, 900])


@pytest.mark.parametrize(
    ("look", "values", "modality", "words"),
    [
        ("CT bone", MR, "MR", "made for CT, but the volume is MR"),
        ("MR head", CT, "CT", "made for MR, but the volume is CT"),
        ("CT vessels", CT, "PT", "volume is PT"),
        ("CT bone", MR, "", "no air below -500"),
        ("MR soft tissue", CT, "", "has air below -500"),
        ("CT bone", CT, "", ""),
        ("CT bone", MR, "CT", ""),  # a CT whose air was cut off is one
        ("MR head", MR, "", ""),
        ("MR head", MR, "MR", ""),
    ],
)
def test_a_look_of_another_modality_is_warned_of(look: str, values: np.ndarray, modality: str, words: str) -> None:
    said = modality_warning(find_look(look), values, modality)
    assert words in said and bool(said) == bool(words)


def test_every_built_in_look_says_its_modality() -> None:
    assert {look.modality for look in looks().values()} == {"CT", "MR"}
    assert all(look.name.startswith(look.modality) for look in looks().values())


def test_a_look_that_nobody_knows_the_modality_of_is_not_warned_of(tmp_path: Path) -> None:
    own = find_look("CT bone").to_dict()
    assert own["modality"] == "CT"
    del own["modality"]
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"looks": [own]}), encoding="utf-8")
    assert modality_warning(find_look(path), MR, "MR") == ""
    path.write_text(json.dumps({"looks": [{**own, "modality": 3}]}), encoding="utf-8")
    with pytest.raises(GaussianMRIError, match="modality are text"):
        find_look(path)


def test_a_picture_in_a_look_of_another_modality_is_made_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    values = np.zeros((12, 12, 12), np.float32)
    values[3:9, 3:9, 3:9] = 800
    options = {"size": 16, "samples": 1, "denoised": False}
    with caplog.at_level(logging.WARNING, logger="GaussianMRI"):
        assert render_picture(values, np.eye(4), look="MR head", **options).alpha.any() and not caplog.records
        assert render_picture(values, np.eye(4), look="CT bone", **options).alpha.any()
        assert render_picture(values, np.eye(4), look="MR head", modality="CT", **options).alpha.any()
    assert ["made for CT" in record.message for record in caplog.records] == [True, False]


# ---- the body


def patient(shape: tuple[int, int, int] = (40, 120, 140), step: float = 2.0) -> dict[str, np.ndarray]:
    """A trunk with lungs and a vessel in one, on a table of two shells with a soft core, a cable across, a headrest."""
    k, j, i = (np.arange(n) * step for n in shape)
    k, j, i = k[:, None, None], j[None, :, None], i[None, None, :]
    body = ((j - 110) / 70) ** 2 + ((i - 140) / 110) ** 2 + 0 * k < 1
    lung = ((j - 105) / 35) ** 2 + ((i - 90) / 35) ** 2 + 0 * k < 1
    vessel = ((j - 105) ** 2 + (i - 90) ** 2 + 0 * k < 5**2) & lung
    table = ((np.abs(j - 181) <= 1) | (np.abs(j - 213) <= 1)) & (np.abs(i - 140) < 120) & (k > -1)
    cable = ((j - 20) ** 2 + (i - 60) ** 2 + 0 * k) < 4**2
    rest = (np.abs(j - 200) < 8) & (np.abs(i - 140) < 25) & (k > 60)
    beside = {"table": table & ~body, "cable": cable & ~body, "rest": rest & ~body}
    return {"body": body, "lung": lung, "vessel": vessel, **beside}


def hounsfield(parts: dict[str, np.ndarray], seed: int = 0) -> np.ndarray:
    values = np.full(parts["body"].shape, -1000.0)
    for name, value in (("table", 100), ("rest", 0), ("cable", 2000), ("body", 50), ("lung", -850), ("vessel", 150)):
        values[parts[name]] = value
    noise = np.random.default_rng(seed).normal(0, 15, values.shape)
    return np.clip(gaussian_filter(values, 0.5) + noise, -1024, 3000).astype(np.int16)


def test_table_cable_and_headrest_go_and_the_body_stays() -> None:
    parts = patient()
    before = hounsfield(parts)
    after = keep_body(before, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert after.dtype == before.dtype and after is not before
    assert np.array_equal(after[parts["body"]], before[parts["body"]])  # with its lungs, and what is in them
    for name in ("table", "cable", "rest"):
        gone = after[parts[name]] == before.min()
        assert gone.mean() > (0.88 if name == "table" else 0.999), name  # but for the strip that the body lies on
    again = keep_body(after, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert (again != after).mean() < 0.01


@pytest.mark.parametrize("axes", ["fine", "left-handed", "sheared"])
def test_the_body_is_the_same_on_other_grids(axes: str) -> None:
    step = 1.0 if axes == "fine" else 2.0
    parts = patient((80, 240, 280) if axes == "fine" else (40, 120, 140), step)
    matrix = np.diag([step, step, step, 1.0])
    if axes == "left-handed":
        matrix[0, 0] *= -1
    if axes == "sheared":
        matrix[0, 2] = 0.4
    before = hounsfield(parts)
    after = keep_body(before, matrix)
    assert np.array_equal(after[parts["body"]], before[parts["body"]])
    assert (after[parts["cable"]] == before.min()).mean() > 0.999 and (after[parts["table"]] == before.min()).mean() > 0.88


def test_what_is_thin_stays_with_the_body_unless_it_leads_away() -> None:
    """An ear stays whole; a table behind a bridge goes, and most of a lead on the skin, but for what lies on it."""
    k, j, i = (np.arange(n) * 2.0 for n in (40, 120, 140))
    k, j, i = k[:, None, None], j[None, :, None], i[None, None, :]
    body = ((j - 110) / 66) ** 2 + ((i - 140) / 90) ** 2 + 0 * k < 1
    ear = (np.abs(j - 110) < 25) & (np.abs(k - 40) < 20) & (i > 225) & (i < 255) & ~body
    ear &= np.abs(i - 230 - (j - 110) / 5) < 4  # joined along one edge
    lead = (np.abs(k - 60) < 3) & (i < 140) & (np.abs(np.hypot((j - 110) / 69, (i - 140) / 93) - 1) < 0.03) & (j < 100)
    lead |= (np.abs(k - 60) < 3) & (np.abs(j - 100) < 3) & (i < 50)
    lead &= ~body
    off_skin = np.hypot((j - 110) / 69, (i - 140) / 93) > 1
    table = (np.abs(j - 183) < 2) & (np.abs(i - 140) < 120) & (k > -1)
    bridge = (j > 175) & (j < 182) & (np.abs(i - 140) < 8) & (k > -1) & ~body
    values = np.full(body.shape, -1000, np.int16)
    for part, value in ((bridge, -200), (table, 100), (lead, 300), (ear, 20), (body, 40)):
        values[part] = value
    after = keep_body(values, np.diag([2.0, 2.0, 2.0, 1.0]))
    kept = {name: float((after[part] == values[part]).mean()) for name, part in
            (("body", body), ("ear", ear), ("lead", lead & off_skin), ("table", table))}
    assert kept["body"] == 1 and kept["ear"] == 1 and kept["lead"] < 0.42 and kept["table"] < 0.1, kept


def test_two_legs_stay() -> None:
    k, j, i = np.indices((30, 60, 120))
    legs = [((j - 30) / 22) ** 2 + ((i - x) / 22) ** 2 + 0 * k < 1 for x in (30, 90)]
    values = np.where(legs[0] | legs[1], 40, -1000).astype(np.int16)
    values[:, 2:6, 2:6] = 500  # a cable
    after = keep_body(values, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert np.array_equal(after == 40, values == 40) and (after != 500).all()


def test_a_head_of_an_mr_keeps_its_scalp_and_its_brain() -> None:
    """Bone is as dark as air, so scalp and brain do not touch."""
    k, j, i = (np.indices((60, 60, 60)) - 29.5) * 3.0
    away = np.sqrt(i**2 + j**2 + k**2)
    values = np.where(away < 55, 600, np.where(away < 63, 15, np.where(away < 70, 800, 10))).astype(np.float32)
    values += np.random.default_rng(0).normal(0, 4, values.shape).astype(np.float32)
    values[40:44, 2:5, 2:5] = 500  # a marker beside the head
    after = keep_body(values, np.diag([3.0, 3.0, 3.0, 1.0]), modality="MR")
    assert np.array_equal(after[away < 70], values[away < 70])
    assert (after[40:44, 2:5, 2:5] == values.min()).all()


def test_padding_of_an_mr_is_no_air() -> None:
    values = np.random.default_rng(0).rayleigh(15, (40, 44, 48)).astype(np.float32)
    values[10:30, 10:34, 10:38] += 600
    matrix = np.diag([3.0, 3, 3, 1])
    padded = values.copy()
    padded[:, :, -6:] = -3000
    bare, kept = (keep_body(x, matrix, modality="MR") for x in (values, padded))
    assert np.array_equal(bare > 100, kept > 100) and (bare > 100).sum() > 10_000
    assert kept.min() == padded[padded >= 0].min()


def test_a_scan_without_a_body_is_refused() -> None:
    values = np.full((20, 20, 20), -1000, np.int16)
    values[:, 10, :] = 500
    with pytest.raises(GaussianMRIError, match="No body is found"):
        keep_body(values, np.eye(4))


def test_the_commands_leave_the_table_out_and_warn(tmp_path: Path) -> None:
    parts = patient()
    image = sitk.GetImageFromArray(hounsfield(parts))
    image.SetSpacing((2.0, 2.0, 2.0))
    file = tmp_path / "patient.nrrd"
    sitk.WriteImage(image, str(file))

    def picture(*more: object) -> tuple[np.ndarray, str]:
        output = tmp_path / "x.png"
        small = ("--size", 60, 48, "--samples", 4, "--no-denoise", "-q", "--azimuth", 0, "--elevation", 0, "--zoom", 1.2)
        arguments = ["cinematic", "picture", file, "-o", output, *small, "--look", "CT soft tissue", *more]
        done = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return np.asarray(Image.open(output)).sum(axis=-1) > 60, done.output

    whole, said = picture()
    bare, _ = picture("--body-only")
    assert "made for" not in said
    assert bare.any() and whole.any() and not np.array_equal(whole, bare)
    _, said = picture("--look", "MR head")
    assert "made for MR" in said
    done = CliRunner().invoke(
        main,
        [*map(str, ("cinematic", "dataset", file, "-o", tmp_path / "set", "--look", "MR head", "--body-only", "--train", 1,
                    "--test", 1, "--size", 16, "--samples", 1, "--test-samples", 1, "-q"))],
    )  # fmt: skip
    assert done.exit_code == 0 and "made for MR" in done.output, done.output
