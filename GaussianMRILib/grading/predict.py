"""Grades of one disc, or of a table of cases, by trained networks: sixteen views of the images, mean softmax."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import GaussianMRIError
from ..files import reading
from .augment import VIEWS, resize, view_images
from .crops import Case, CropSet, check_images, preprocessing_of
from .labels import DISCLAIMER, GRADES, NOT_CALIBRATED, Task, is_sagittal
from .model_card import Grader
from .network import mixed_precision

if TYPE_CHECKING:
    from .inputs import GradingInput

BATCH = 20
"""Slices that are encoded at a time, two views mostly: more and fewer are slower, by a tenth at most."""


@dataclass(frozen=True)
class Grade:
    """What a network says of one disc, with all that has to be shown with it.

    Attributes:
        task: condition and side.
        probabilities: of `GRADES`, calibrated where the checkpoint has a calibration.
        level: of the disc, "" where it is not known.
        input_type: of `INPUT_TYPES`: what kind of images it is based on; "" where that is not known.
        outside: share of the crop outside the scan, 0 to 1; None where it is not known.
        checkpoint: SHA-256 of the network's file.
        trained_on: training data in words.
        synthetic: the network was trained on data that are not of human beings.
        calibration: with what the probabilities are calibrated, in words; "" where they are not.
    """

    task: Task
    probabilities: tuple[float, ...]
    level: str
    input_type: str
    outside: float | None
    checkpoint: str
    trained_on: str
    synthetic: bool
    calibration: str = ""

    @property
    def index(self) -> int:
        """Number of the most probable grade."""
        return int(np.argmax(self.probabilities))

    @property
    def label(self) -> str:
        """The most probable grade."""
        return GRADES[self.index]

    @property
    def probability(self) -> float:
        """Of `label`."""
        return self.probabilities[self.index]

    @property
    def text(self) -> str:
        """For a label in an image: "L5/S1 left subarticular: moderate 0.61"; a synthetic network's says so."""
        title = self.task.title
        place = title.rsplit(" ", 1)[0] if self.task.side else title
        mark = " SYNTHETIC" if self.synthetic else ""
        return f"{self.level} {place}: {self.label.lower()} {self.probability:.2f}{mark}".strip()

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that are shown wherever the grade is."""
        outside = "not known" if self.outside is None else f"{self.outside:.0%} of the crop"
        return (
            DISCLAIMER,
            f"Trained on: {self.trained_on}",
            f"Checkpoint: {self.checkpoint}",
            f"Input type: {self.input_type or 'not known'}",
            f"Outside the scan: {outside}",
            self.calibration or NOT_CALIBRATED,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with all that has to be shown."""
        return {
            "text": self.text,
            "level": self.level,
            "condition": self.task.condition,
            "side": self.task.side,
            "grade": self.label,
            "probabilities": dict(zip(GRADES, (round(p, 6) for p in self.probabilities), strict=True)),
            "calibrated": bool(self.calibration),
            "calibration": self.calibration or NOT_CALIBRATED,
            "input_type": self.input_type,
            "outside": self.outside,
            "checkpoint_sha256": self.checkpoint,
            "trained_on": self.trained_on,
            "synthetic": self.synthetic,
            "disclaimer": DISCLAIMER,
        }


def grade(
    graders: Grader | Iterable[Grader],
    inputs: GradingInput | tuple[NDArray[np.float32], NDArray[np.bool_]],
    views: int = len(VIEWS),
    level: str | None = None,
    precision: str = "auto",
    progress: Callable[[float], object] | None = None,
) -> list[Grade]:
    """Grade one disc with every network.

    Args:
        graders: what `load_grader` returned.
        inputs: of one disc; or its images (S, H, W) of 0 to 1 and the mask (S,) of those that exist.
        views: the first so many of `VIEWS`, 1 to 16, whose probabilities are averaged.
        level: of the disc, where `inputs` does not say it.
        precision: of the matrix products, see `network.mixed_precision`.
        progress: called with the fraction done; when it returns False the work stops.

    Returns:
        One grade for each network, in their order.

    Raises:
        GaussianMRIError: a network that was not made for such images or such a disc, or calibrated with another number of
            views, images no scan can have, or a stop.
    """
    chosen = [graders] if isinstance(graders, Grader) else list(graders)
    facts: dict[str, Any] = {}
    kind, outside = "", None
    if isinstance(inputs, tuple):
        images, mask = inputs
    else:
        images, mask, facts = inputs.images, inputs.mask, inputs.facts
        kind, outside = inputs.input_type, inputs.outside
    images, mask = np.asarray(images, np.float32), np.asarray(mask, bool)
    level = level or str(facts.get("level", ""))
    check_images(images, mask, "The images")
    for grader in chosen:
        check_fits(grader, images.shape, facts, level, kind)
        if grader.card.calibration is not None:
            grader.card.calibration.check_views(views)
    results = []
    stages = _Stages(progress, len(chosen))
    for grader in chosen:
        p = _probabilities(grader, torch.from_numpy(images), torch.from_numpy(mask), views, precision, stages)
        card, words = grader.card, ""
        if card.calibration is not None:
            p, words = card.calibration.apply(p, views).tolist(), card.calibration.text
        facts_of_grade = kind, outside, grader.sha256, card.trained_on, card.synthetic, words
        results.append(Grade(card.task, tuple(p), level, *facts_of_grade))
    return results


def grade_cases(
    grader: Grader,
    crops: CropSet,
    cases: Sequence[Case],
    views: int = len(VIEWS),
    precision: str = "auto",
    progress: Callable[[float], object] | None = None,
) -> NDArray[np.float64]:
    """Mean probabilities (n, 3) of cases of a folder of inputs, before any calibration; see `grade`."""
    stages = _Stages(progress, len(cases))
    rows = []
    for case in cases:
        images, mask = crops.images(case)
        facts = {
            "preprocessing": crops.facts["preprocessing"]["version"],
            "options": crops.facts["preprocessing"],
        }
        with reading(f"{crops.folder}, {case.case_id}", "a case for this network"):
            check_fits(grader, images.shape, facts, case.level, case.input_type)
        tensor = torch.from_numpy(images.astype(np.float32))
        rows.append(_probabilities(grader, tensor, torch.from_numpy(mask), views, precision, stages))
    return np.array(rows, dtype=np.float64).reshape(-1, len(GRADES))


def check_fits(grader: Grader, shape: Sequence[int], facts: dict[str, Any], level: str, kind: str = "") -> None:
    """Refuse a network that was trained on images made otherwise, or on other discs.

    Args:
        shape: (S, H, W) of the images.
        facts: of the `GradingInput`.
        level: of the disc, "" where it is not known.
        kind: of `INPUT_TYPES`, "" where it is not known.

    Raises:
        GaussianMRIError: what does not fit.
    """
    card, name = grader.card, grader.name or grader.card.task.title
    if kind and kind not in card.sees:
        raise GaussianMRIError(
            f"{name} was trained on {', '.join(card.input_types)} and cannot be shown {kind}. Use a checkpoint for {kind}."
        )
    if tuple(shape) != card.shape:
        raise GaussianMRIError(
            f"{name} was trained on {' x '.join(map(str, card.shape))} images, these are "
            f"{' x '.join(map(str, shape))}. Use a checkpoint that was trained on such images."
        )
    made = preprocessing_of(facts)
    if made != dict(card.preprocessing):
        raise GaussianMRIError(
            f"{name} was trained on regions made by {dict(card.preprocessing)}, this one is made by {made}. "
            "Make the region with the same options, or use another checkpoint."
        )
    if level and card.levels and level not in card.levels:
        raise GaussianMRIError(
            f"{name} was trained on {', '.join(card.levels)} and cannot grade {level}. Use a checkpoint for {level}."
        )


class _Stages:
    """Progress over several networks or cases, and the stop."""

    def __init__(self, report: Callable[[float], object] | None, count: int) -> None:
        self.report, self.count, self.done = report, count, 0.0

    def advance(self, part: float) -> None:
        self.done += part / max(1, self.count)
        if self.report is not None and self.report(min(1.0, self.done)) is False:
            raise GaussianMRIError("Grading was stopped.")


@torch.inference_mode()
def _probabilities(
    grader: Grader, images: Tensor, mask: Tensor, views: int, precision: str, stages: _Stages
) -> list[float]:
    """Mean softmax over the views of images (S, H, W)."""
    if not 1 <= views <= len(VIEWS):
        raise GaussianMRIError(f"views is 1 to {len(VIEWS)}, not {views}.")
    network, device = grader.network, grader.device
    # Slices in reverse order have the same features: only the transformer has to see them. The order of sagittal ones is
    # left and right, so that this is no view of theirs.
    chosen = [view for view in VIEWS[:views] if not (view.flip and is_sagittal(grader.card.input_types))]
    unlike = tuple(view for view in chosen if not view.flip)
    shown = resize(view_images(images, mask, unlike), grader.card.input_size).to(device)
    masks = mask.to(device).expand(len(unlike), -1)
    with mixed_precision(device, precision):
        parts = []
        step = max(1, BATCH // max(1, int(mask.sum())))
        for first in range(0, len(unlike), step):
            part = slice(first, first + step)
            parts.append(network.encode(shown[part], masks[part]))
            stages.advance(len(parts[-1]) / len(unlike))
        features = torch.cat(parts)
        if len(unlike) < len(chosen):
            features = torch.cat([features, features[:1].flip(1)])
            masks = torch.cat([masks, masks[:1].flip(1)])
        logits = network.classify(features, masks)
    mean: list[float] = torch.softmax(logits.float(), dim=1).mean(dim=0).tolist()
    if not np.isfinite(mean).all():
        raise GaussianMRIError(
            f"{grader.name or grader.card.task.title} gives no probabilities: its weights are damaged. Take a copy of it."
        )
    return mean
