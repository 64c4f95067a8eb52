"""The benchmark of foramina on sagittal T1 and T2: left and right in its loop, its measures, its table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monai", reason="grading needs MONAI")
pytest.importorskip("sklearn", reason="grading needs scikit-learn")

import torch

from GaussianMRILib.grading.labels import LATERAL_TASKS
from GaussianMRILib.grading.options import NetworkOptions
from Testing.Benchmarks import grading_tasks
from Testing.Benchmarks.grading_sagittal import FORAMINA, judged
from Testing.Benchmarks.report_grading import grading_sagittal


@pytest.mark.parametrize("tasks", [FORAMINA, FORAMINA[:1], FORAMINA[1:]])
def test_a_mirrored_example_has_the_other_sides_grade(tasks: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first slice shows the right foramen's grade, the last the left one's, whichever way an example is shown."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (40, len(LATERAL_TASKS)), generator=generator)
    masks = torch.ones(40, 9, dtype=torch.bool)
    masks[:, 1] = False
    images = torch.zeros(40, 9, 8, 16)
    for task, place in zip(FORAMINA, (8, 0), strict=True):
        images[:, place] = labels[:, LATERAL_TASKS.index(task), None, None].float()
    seen: list[torch.Tensor] = []

    def unchanged(images: torch.Tensor, masks: torch.Tensor, changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
        assert not changes.flip.any(), "reversed slices would be the other side's"
        seen.extend([images, masks])
        return images, masks

    def asked(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def loss(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            seen.append(target)
            return real(logits, target, weights)

        return loss

    monkeypatch.setattr(grading_tasks, "change", unchanged)
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", asked(torch.nn.functional.cross_entropy))
    options = NetworkOptions(widen=0.125, layers=1, feed_forward=16)
    grading_tasks.trained(tasks, (images, masks, labels, labels), 3, 0, options, sagittal=True)
    assert len(seen) == 9
    mirrored = 0
    for shown, there, target in zip(seen[::3], seen[1::3], seen[2::3], strict=True):
        places = [8 if task.side == "left" else 0 for task in tasks]
        assert torch.equal(target.reshape(-1, len(tasks)).float(), shown[:, places, 0, 0])
        assert torch.equal(there[:, 1], ~there[:, 7]), "the slice that is missing is so on the other side of a mirror image"
        mirrored += int(there[:, 1].sum())
    assert 10 < mirrored < 38


def test_measures_of_both_sides() -> None:
    labels = [[0, 1, 2, 0, 1, 2], [2, 2, 1, 0, 0, 1]]
    right = [np.eye(3)[side] * 0.94 + 0.02 for side in labels]
    wrong = [np.roll(p, 1, axis=0) for p in right]
    rows, differences = judged({"one": right, "other": wrong}, labels, labels, list("abcdef"), 50)
    assert rows["one"]["macro_auroc"]["value"] == rows["one"]["macro_auroc_true_grades"]["value"] == 1
    assert rows["one"]["kappa_quadratic"]["value"] == 1 and len(rows["one"]["sides"]) == 2
    assert rows["one"]["log_loss"]["value"] == pytest.approx(-np.log(0.96))
    (name,) = differences
    assert name == "one - other" and differences[name]["macro_auroc"]["value"] > 0.2


def test_the_table_says_what_was_trained_and_how_it_ended() -> None:
    def found(value: float) -> dict[str, Any]:
        return {"value": value, "low": value - 0.02, "high": value + 0.02, "level": 0.95, "resamples": 9}

    measures = dict.fromkeys(("macro_auroc", "kappa_quadratic", "log_loss", "macro_auroc_true_grades"), found(0.8))
    ended = [{"steps": 1536, "converged": False, "seed": 0}, {"steps": 1024, "converged": True, "seed": 1}]
    training = {"input_size": [40, 80], "epochs": 48, "epoch_steps": 32}
    results = {
        "options": {"train": 200, "validation": 60, "test": 150, "seed": 0, "training": training},
        "test_grades": [180, 60, 60], "ways_size": [28, 56],
        "kinds": {"S-T1": measures | {"training": ended}}, "kinds_differences": {"S-T1 - S-T2": measures},
        "ways": {"one for both": measures | {"training": {"steps": 2000}}}, "ways_differences": {},
    }  # fmt: skip
    text = grading_sagittal({"grading_sagittal": results})
    assert "| S-T1 | 0.800 (0.780 to 0.820) |" in text and "180 / 60 / 60" in text
    assert "| 1,536 (limit); 1,024, seed 1 |" in text
    assert "| S-T1 - S-T2 | 0.800" in text and text.rstrip().endswith("| 2,000 |")
