"""Heat-maps: what covering a part of an input does to the grade, and the page that shows it."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grading_cases import card
from PIL import Image
from study_scenes import FULL, Probe, ProbeNetwork

from GaussianMRILib.cli.grade_predict import _maps
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.grading.heatmap import NOTICE, SQUARE, HeatMap, heat_map, heat_picture, write_report
from GaussianMRILib.grading.inputs import GradingInput
from GaussianMRILib.grading.labels import LEVELS, Task
from GaussianMRILib.grading.model_card import Grader
from GaussianMRILib.grading.predict import grade
from GaussianMRILib.grading.study import StudyGrade, StudyGrades

LEFT = Task("subarticular_stenosis", "left")
BOX = [[3, 4], [60, 70], [150, 160]]  # slice, rows, columns that the network looks at, and at nothing else


def grader() -> Grader:
    network: Any = ProbeNetwork(Probe(BOX))
    return Grader(network, card(LEFT, FULL, levels=LEVELS), "a" * 64, "left.pt")


def dark_spot() -> GradingInput:
    """Grey, dark where the network looks; the first slice does not exist."""
    images = np.full(FULL, 0.5, np.float32)
    images[3, 60:70, 150:160] = 0.0
    mask = np.arange(9) > 0
    images[0] = 0
    axes = (-1, 0, 0), (0, -1, 0)
    planes = ImagePlane.from_axes((0, -20, 5), *axes, spacing=(0.5, 0.5), shape=FULL[1:], thickness=4).stack(9, 4.0)
    return GradingInput(images, mask, tuple(planes), "A", 0.0, {"level": "L5/S1"})


def test_the_map_is_hot_where_the_network_looks() -> None:
    inputs, told = dark_spot(), list[float]()
    found = heat_map(grader(), inputs, step=14, progress=told.append)
    (known,) = grade(grader(), inputs, 1)
    assert found.grade == known.label == "Severe" and found.probability == pytest.approx(known.probability, abs=1e-6)
    assert told == sorted(told) and told[-1] == 1.0
    assert found.drop.shape == FULL[1:] and found.drop[65, 155] == found.drop.max()
    grey = 0.5 * (1 - 100 / (8 * 112 * 224))
    covered = 1 / (1 + np.exp(1 - 30 * (0.3 - grey)) + np.exp(-30 * (0.3 - grey)))
    # Squares that hide the whole spot leave grey; among those over its middle some hide a part of it.
    assert 0.5 * (found.probability - covered) < found.drop.max() <= found.probability - covered + 1e-5
    away = np.ones(FULL[1:], bool)
    away[60 - SQUARE : 70 + SQUARE, 150 - SQUARE : 160 + SQUARE] = False
    assert np.abs(found.drop[away]).max() < 1e-3
    assert np.isnan(found.slices[0]) and np.nanmax(np.abs(found.slices)) < 1e-6  # this probe does not heed the mask
    assert found.slice == 5, "the middle of the eight that exist"
    plane = inputs.planes[found.slice]
    local = (found.place - plane.origin) @ np.stack([plane.i_axis, plane.j_axis], axis=1) / 0.5
    assert np.abs(local - [154.5, 64.5]).max() <= SQUARE / 2
    with pytest.raises(GaussianMRIError, match="stopped"):
        heat_map(grader(), inputs, progress=lambda part: part < 0.5)
    with pytest.raises(GaussianMRIError, match="at least 1 pixel"):
        heat_map(grader(), inputs, step=0)


def test_the_map_follows_the_grade_of_the_table() -> None:
    """Of all views, calibrated or not: the first view may have another one."""
    inputs, network = dark_spot(), grader()
    (known,) = grade(network, inputs, 1, level="L5/S1")
    other = replace(known, probabilities=(0.2, 0.5, 0.3))
    rows = tuple(StudyGrade("L5/S1", LEFT, found, network, inputs) for found in (known, other))
    (_, severe), (_, moderate) = _maps(StudyGrades(rows))
    assert (severe.grade, moderate.grade) == ("Severe", "Moderate") and moderate.text.startswith("P moderate")
    assert moderate.probability == pytest.approx(known.probabilities[1], abs=1e-6)
    assert moderate.drop.min() < -0.02 and severe.drop.max() > 0.02, "what speaks for one speaks against the other"
    with pytest.raises(GaussianMRIError, match="no grade 'Bad'"):
        heat_map(network, inputs, grade="Bad")


def marks(*axes: tuple[int, int, int]) -> tuple[bytes, bytes]:
    """What is written at the left and the right edge of a picture of an image with these axes."""
    plane = ImagePlane.from_axes((0, 0, 0), *axes, spacing=(0.5, 0.5), shape=FULL[1:], thickness=4)
    black = replace(dark_spot(), images=np.zeros(FULL, np.float32), planes=(plane,) * 9)
    nothing = HeatMap("Severe", 0.9, np.zeros(FULL[1:], np.float32), np.zeros(9, np.float32), np.zeros(3))
    picture = heat_picture(black, nothing, "title")[:224, :448, 0]
    assert not picture[:, 20:-20].any()
    left, right = picture[:, 6:16], picture[:, -14:-4]
    assert left.any() and right.any()
    return left.tobytes(), right.tobytes()


def test_the_picture_has_the_patients_sides() -> None:
    r, l_ = marks((-1, 0, 0), (0, -1, 0))
    assert r != l_ and marks((1, 0, 0), (0, -1, 0)) == (l_, r)
    a, p = marks((0, -1, 0), (0, 0, -1))
    assert len({r, l_, a, p}) == 4 and marks((0, 1, 0), (0, 0, -1)) == (p, a)


def test_the_page(tmp_path: Path) -> None:
    inputs, network = dark_spot(), grader()
    (known,) = grade(network, inputs, 1, level="L5/S1")
    row = StudyGrade("L5/S1", LEFT, known, network, inputs)
    missing = StudyGrade("L4/L5", LEFT, remarks=("<no> series",))
    found = heat_map(network, inputs, step=28)
    write_report(tmp_path / "page.html", StudyGrades((row, missing)), [(row, found)])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert NOTICE in page and "Research use only" in page and "&lt;no&gt; series" in page and found.text in page
    assert f"Checkpoint: {'a' * 64}" in page and "L5/S1 left subarticular: severe" in page
    (data,) = re.findall(r'base64,([^"]+)"', page)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    assert np.array_equal(picture, heat_picture(inputs, found, row.text))
    crop, heat = picture[:224, :448], picture[:224, 448:896]
    assert (crop[..., 0] == crop[..., 2]).all(), "the crop itself is grey"
    assert heat[130, 310, 0] > heat[130, 310, 2] + 80 and np.abs(heat[40, 40] - crop[40, 40]).max() < 3
