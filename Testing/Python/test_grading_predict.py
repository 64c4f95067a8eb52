"""Checkpoints and grades: sixteen views, all that has to be said with a grade, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grading_cases import LEFT, TINY, Input, card, make_set, spots
from torch import nn

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.grading.augment import VIEWS, resize, view_images
from GaussianMRILib.grading.crops import preprocessing
from GaussianMRILib.grading.labels import DISCLAIMER, GRADES, LATERAL_TASKS
from GaussianMRILib.grading.model_card import ModelCard, load_grader, save_grader, write_state
from GaussianMRILib.grading.network import GradingNetwork
from GaussianMRILib.grading.predict import Grade, grade, grade_cases


def random_network(seed: int = 0) -> GradingNetwork:
    torch.manual_seed(seed)
    made = GradingNetwork(TINY)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    nn.init.normal_(made.head.weight, std=0.5)  # grades that differ
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def network() -> GradingNetwork:
    return random_network()


@pytest.fixture
def path(network: GradingNetwork, tmp_path: Path) -> Path:
    return save_grader(tmp_path / "left.pt", network, card())


def disc(mask: tuple[bool, ...] = (True, True, False), **facts: Any) -> Input:
    made = spots(1, 0, np.random.default_rng(0))
    return replace(made, mask=np.array(mask), input_type="R-GS", facts={"level": "L5/S1", **facts})


# ---- checkpoints -----------------------------------------------------------------------------------------------


def test_a_checkpoint_says_what_it_is(network: GradingNetwork, path: Path, tmp_path: Path) -> None:
    grader = load_grader(path, LEFT)
    assert grader.card == card() and grader.name == "left.pt" and grader.device.type == "cpu"
    assert grader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert grader.card.trained_on == "spots; L5/S1; A; 4 cases"
    assert card(data="", synthetic=True, cases={}).trained_on == "SYNTHETIC: training data not declared; L5/S1; A"
    assert save_grader(tmp_path / "again.pt", network, card()).read_bytes() == path.read_bytes()
    x, mask = torch.rand(1, 3, 16, 32), torch.ones(1, 3, dtype=torch.bool)
    assert torch.allclose(grader.network(x, mask), network(x, mask), atol=1e-5)
    assert ModelCard.from_dict(json.loads(json.dumps(card().to_dict()))) == card()


def test_checkpoints_that_cannot_be_used(network: GradingNetwork, path: Path, tmp_path: Path) -> None:
    with pytest.raises(GaussianMRIError, match="grades left subarticular stenosis, not right subarticular"):
        load_grader(path, LEFT.mirrored)
    with pytest.raises(GaussianMRIError, match=r"none\.pt cannot be read: it does not exist.*grade train"):
        load_grader(tmp_path / "none.pt")
    whole = path.read_bytes()
    for part in (0, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:part])
        with pytest.raises(GaussianMRIError, match=r"left\.pt is not .*truncated"):
            load_grader(path)
    state = torch.load(io.BytesIO(whole), weights_only=True)
    for change, message in (
        ({"format": "another"}, "another kind of file"),
        ({"version": 9}, "newer version"),
        ({"card": {**state["card"], "task": "left_knee"}}, "'left_knee' is not graded"),
        ({"card": {**state["card"], "classes": ("no", "yes")}}, "tells apart no, yes, not Normal/Mild"),
        ({"card": {}}, "is not a whole checkpoint, or it is damaged"),
        (
            {"card": {**card().to_dict(), "preprocessing": {"row": torch.zeros(4)}}},
            "tables have entries that are neither text nor numbers",
        ),
        ({"card": {**state["card"], "levels": {"L5/S1": {}}}}, r"classes, levels or kinds of images are no lists"),
        ({"weights": {}}, "is not a whole checkpoint, or it is damaged"),
    ):
        write_state(path, {**state, **change})
        with pytest.raises(GaussianMRIError, match=message):
            load_grader(path)
    torch.save({**state, "network": network}, path)  # code that reading would run
    with pytest.raises(GaussianMRIError, match="is not a GaussianMRI grader"):
        load_grader(path)
    with pytest.raises(GaussianMRIError, match="cannot be written"):
        save_grader(tmp_path / "missing" / "a.pt", network, card())


# ---- grades ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 2, 7, 16])
def test_probabilities_are_the_mean_over_the_views(network: GradingNetwork, path: Path, views: int) -> None:
    inputs = disc()
    (found,) = grade(load_grader(path), inputs, views, precision="float32")
    x, mask = torch.from_numpy(inputs.images), torch.from_numpy(inputs.mask)
    rows = []
    for view in VIEWS[:views]:
        shown, seen = view_images(x, mask, (view,)), mask[None]
        if view.flip:
            shown, seen = shown.flip(1), seen.flip(1)
        rows.append(torch.softmax(network(shown, seen), dim=1))
    expected = torch.cat(rows).mean(dim=0)
    assert np.allclose(found.probabilities, expected, atol=1e-5)
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-6)
    if views > 1:
        assert torch.cat(rows).std(dim=0).max() > 1e-4  # the views do differ


def test_a_grade_comes_with_all_that_must_be_shown(network: GradingNetwork, tmp_path: Path) -> None:
    graders = [
        load_grader(save_grader(tmp_path / f"{n}.pt", random_network(n), card(task, synthetic=n == 1)))
        for n, task in enumerate(LATERAL_TASKS)
    ]
    done: list[float] = []
    grades = grade(graders, disc(), progress=done.append)
    assert [found.task for found in grades] == list(LATERAL_TASKS)
    assert done == sorted(done) and done[-1] == pytest.approx(1) and len(done) >= 4
    assert len({found.probabilities for found in grades}) == 4
    for found, grader in zip(grades, graders, strict=True):
        assert found.checkpoint == grader.sha256 and found.trained_on == grader.card.trained_on
        assert found.input_type == "R-GS" and found.outside == 0.25 and found.level == "L5/S1"
        assert found == grade(grader, disc())[0]
        assert found.label == GRADES[int(np.argmax(found.probabilities))]
        assert found.probability == max(found.probabilities)
    known = replace(grades[0], probabilities=(0.2, 0.61, 0.19))
    assert known.text == "L5/S1 left subarticular: moderate 0.61"
    assert replace(known, task=LATERAL_TASKS[3]).text == "L5/S1 right neural foraminal: moderate 0.61"
    assert replace(known, synthetic=True).text == "L5/S1 left subarticular: moderate 0.61 SYNTHETIC"
    notes = "\n".join(known.notes)
    for part in (
        DISCLAIMER,
        graders[0].sha256,
        "spots; L5/S1; A; 4 cases",
        "R-GS",
        "25% of the crop",
        "not calibrated",
    ):
        assert part in notes, part
    content = json.loads(json.dumps(grades[1].to_dict()))
    assert content["synthetic"] is True and content["calibrated"] is False and content["side"] == "right"
    assert content["checkpoint_sha256"] == graders[1].sha256 and content["disclaimer"] == DISCLAIMER
    assert list(content["probabilities"]) == list(GRADES) and content["outside"] == 0.25


def test_images_alone_can_be_graded(path: Path) -> None:
    inputs = disc()
    (found,) = grade([load_grader(path)], (inputs.images, inputs.mask), level="L5/S1")
    assert found.probabilities == grade(load_grader(path), inputs)[0].probabilities
    assert found.input_type == "" and found.outside is None and "Input type: not known" in found.notes
    assert isinstance(found, Grade) and found.text.startswith("L5/S1 left subarticular: ")


def test_slices_that_do_not_exist_are_not_seen(path: Path) -> None:
    inputs, grader = disc(), load_grader(path)
    before = grade(grader, inputs)[0].probabilities
    inputs.images[2] = 1.0
    assert grade(grader, inputs)[0].probabilities == before
    inputs.images[1] = 1.0
    assert grade(grader, inputs)[0].probabilities != before


@pytest.mark.parametrize(
    ("changes", "facts", "message"),
    [
        ({"shape": (9, 112, 224)}, {}, "trained on 9 x 112 x 224 images, these are 3 x 16 x 32"),
        ({"preprocessing": preprocessing(version=0)}, {}, "'version': 0.*made by.*'version': 1"),
        ({}, {"preprocessing": 2}, "'version': 2"),
        ({}, {"options": {"depth": "half"}}, "'depth': 'half'.*same options"),
        ({"levels": ("L3/L4", "L4/L5")}, {}, "trained on L3/L4, L4/L5 and cannot grade L5/S1"),
    ],
)
def test_a_network_for_something_else_is_refused(
    network: GradingNetwork, tmp_path: Path, changes: dict[str, Any], facts: dict[str, Any], message: str
) -> None:
    grader = load_grader(save_grader(tmp_path / "left.pt", network, replace(card(), **changes)))
    with pytest.raises(GaussianMRIError, match=message):
        grade(grader, disc(**facts))


def test_images_that_cannot_be_graded(path: Path) -> None:
    grader = load_grader(path)
    for inputs, message in (
        (disc(mask=(False, False, False)), "at least one slice"),
        (replace(disc(), images=disc().images * 9), "0 to 1"),
        (replace(disc(), images=disc().images * np.float32(np.nan)), "nan"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            grade(grader, inputs)
    with pytest.raises(GaussianMRIError, match="views is 1 to 16, not 17"):
        grade(grader, disc(), views=17)
    with pytest.raises(GaussianMRIError, match="was stopped"):
        grade(grader, disc(), progress=lambda part: part < 0.3)


def test_smaller_inputs_and_tables_of_cases(network: GradingNetwork, tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"test": 3}, shape=(3, 32, 64))
    small = card(shape=(3, 32, 64), input_size=(16, 32))
    grader = load_grader(save_grader(tmp_path / "left.pt", network, small))
    done: list[float] = []
    p = grade_cases(grader, crops, crops.cases, views=3, precision="float32", progress=done.append)
    assert p.shape == (3, 3) and done[-1] == pytest.approx(1)
    images, mask = crops.images(crops.cases[1])
    (alone,) = grade(grader, (images.astype(np.float32), mask), 3, "L5/S1", "float32")
    assert np.allclose(p[1], alone.probabilities, atol=1e-6)
    x = resize(torch.from_numpy(images.astype(np.float32))[None], (16, 32))
    (first,) = grade(grader, (images.astype(np.float32), mask), 1, precision="float32")
    assert np.allclose(
        first.probabilities, torch.softmax(network(x, torch.from_numpy(mask)[None]), 1), atol=1e-5
    )
    other = load_grader(save_grader(tmp_path / "b.pt", network, replace(small, levels=("L4/L5",))))
    with pytest.raises(GaussianMRIError, match="cannot grade L5/S1") as refused:
        grade_cases(other, crops, crops.cases)
    assert f"{crops.folder}, " in str(refused.value)
    assert grade_cases(grader, crops, []).shape == (0, 3)
