"""Grades of every disc of a segmentation node, as a table in the scene, and by one press in the panel."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import torch  # noqa: E402
from test_mrml_canal import node_of  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))

from grading_cases import TINY, card  # noqa: E402
from spine_scenes import spine_map  # noqa: E402

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.geometry import ImagePlane, slice_poses  # noqa: E402
from GaussianMRILib.grading.labels import LEVELS, STENOSES, Task  # noqa: E402
from GaussianMRILib.grading.model_card import load_grader, save_grader  # noqa: E402
from GaussianMRILib.grading.network import GradingNetwork  # noqa: E402
from GaussianMRILib.grading.spine_labels import spine_labels  # noqa: E402
from GaussianMRILib.grading.study import grade_study  # noqa: E402
from GaussianMRILib.grading.study_series import weighting  # noqa: E402
from GaussianMRILib.mrml.dicom import stacks_of  # noqa: E402
from GaussianMRILib.mrml.grading_study import describe_study  # noqa: E402

CANAL = Task("spinal_canal_stenosis")


@pytest.fixture(scope="module")
def labels() -> Any:
    return spine_map()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    network = GradingNetwork(replace(TINY, slices=9))
    torch.nn.init.normal_(network.head.weight, std=0.2)
    save_grader(folder / "canal.pt", network, card(CANAL, (9, 112, 224), levels=LEVELS, input_types=("S-T2",)))
    return folder


def sagittal_volume(scene: Any, labels: Any, name: str) -> Any:
    planes = [
        ImagePlane(pose, labels.voxels.shape[1:], thickness=4.0)
        for pose in slice_poses(labels.ijk_to_ras, len(labels.voxels))
    ]
    images = 100 + 80 * np.sin(labels.voxels.astype(np.float32))
    return mrml.volume_from_images(list(images.astype(np.float32)), planes, scene=scene, name=name)


def test_a_table_of_the_study(scene: Any, labels: Any, checkpoints: Path) -> None:
    node, volume = node_of(scene, labels), sagittal_volume(scene, labels, "SAG T2")
    (stack,) = stacks_of([volume])
    assert stack.is_sagittal and weighting(stack) == "T2"
    table = mrml.grade_study(node, [volume], checkpoints)
    columns = table.GetTable()
    assert columns.GetNumberOfRows() == 25
    expected = grade_study([load_grader(checkpoints / "canal.pt")], [stack], labels=spine_labels(labels, "map"))
    for row, known in enumerate(expected.rows):
        level, task = LEVELS[row // 5], STENOSES[row % 5]
        assert columns.GetValueByName(row, "level").ToString() == level
        assert columns.GetValueByName(row, "condition").ToString() == task.condition.replace("_", " ")
        severe = columns.GetValueByName(row, "P severe").ToDouble()
        if task == CANAL and known.grade is not None:
            assert severe == pytest.approx(known.grade.probabilities[2], abs=2e-3)
        else:
            assert np.isnan(severe) and columns.GetValueByName(row, "remarks").ToString() == "no network for it"
    assert describe_study(table).startswith("5 of 25 graded") and "Research use only" in table.GetDescription()
    assert table.GetColumnUnitLabel("outside the scan") == "%"
    unnamed = sagittal_volume(scene, labels, "unnamed")
    described = describe_study(mrml.grade_study(node, [unnamed], checkpoints))
    assert described.startswith("0 of 25 graded") and "whether it is T1 or T2" in described
    count = scene.GetNumberOfNodes()
    for volumes, models, words in (
        ([], checkpoints, "volumes of the study"), ([volume], checkpoints / "none", "none comes with this software"),
    ):  # fmt: skip
        with pytest.raises(GaussianMRIError, match=words):
            mrml.grade_study(node, volumes, models)
        assert scene.GetNumberOfNodes() == count
