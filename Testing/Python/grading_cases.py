"""Small sets of network inputs whose grades can be seen: a spot on the patient's left and one on the right."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from GaussianMRILib.grading.crops import Case, CropSet, preprocessing
from GaussianMRILib.grading.labels import GRADES, Task
from GaussianMRILib.grading.model_card import ModelCard
from GaussianMRILib.grading.options import AugmentOptions, GradingOptions, NetworkOptions
from GaussianMRILib.grading.train import GradingTrainer

LEFT = Task("subarticular_stenosis", "left")
RIGHT = LEFT.mirrored
SHAPE = (3, 16, 32)
TINY = NetworkOptions(slices=3, layers=1, feed_forward=16, dropout=0.1, widen=1 / 16)
STILL = AugmentOptions(rotation=0, scale=0, shift=0, slice_shift=0, offset=0, flip_slices=0)
QUICK = GradingOptions(
    epochs=8, window=3, learning_rate=3e-3, network=TINY, precision="float32",
    augment=AugmentOptions(rotation=5, shift=4, slice_shift=1, offset=0.02),
)  # fmt: skip


@dataclass
class Input:
    """What a set needs of a `GradingInput`, at any size."""

    images: np.ndarray
    mask: np.ndarray
    planes: tuple[Any, ...] = ()
    input_type: str = "A"
    outside: float = 0.25
    facts: dict[str, Any] = field(default_factory=dict)


def spots(left: int, right: int, generator: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> Input:
    """Noise with a spot on each side, the brighter the worse the grade; left is at larger columns."""
    _, height, width = shape
    images = generator.uniform(0.2, 0.3, shape)
    rows = slice(height // 3, 2 * height // 3)
    images[:, rows, 5 * width // 8 : 7 * width // 8] += 0.3 * left
    images[:, rows, width // 8 : 3 * width // 8] += 0.3 * right
    return Input(images.astype(np.float32), np.ones(shape[0], bool))


def make_set(
    folder: Path,
    counts: dict[str, int],
    sides: tuple[str, ...] = ("left", "right"),
    types: tuple[str, ...] = ("A",),
    shape: tuple[int, ...] = SHAPE,
    seed: int = 0,
) -> CropSet:
    """Cases by split, all grades equally often, each patient with one disc in every type; `sides` are graded."""
    generator = np.random.default_rng(seed)
    crops = CropSet.create(folder, {"data": "spots", "synthetic": True})
    for split, count in counts.items():
        for n in range(count):
            grades = {"left": n % 3, "right": (n // 3) % 3}
            names = {Task(LEFT.condition, side).name: GRADES[grades[side]] for side in sides}
            study = f"{split}{n}"
            for kind in types:
                case = Case(f"{study}-{kind}", study, study, "L5/S1", kind, split, names, synthetic=True)
                crops.add(case, spots(grades["left"], grades["right"], generator, shape))
    return crops


def card(task: Task = LEFT, shape: tuple[int, int, int] = (3, 16, 32), **changes: Any) -> ModelCard:
    """A card of a network that nobody trained."""
    network = replace(TINY, slices=shape[0])
    values: dict[str, Any] = {
        "input_size": shape[1:],
        "network": network,
        "levels": ("L5/S1",),
        "input_types": ("A",),
        "data": "spots",
        "cases": {"train": {"Normal/Mild": 3, "Severe": 1}},
        "preprocessing": preprocessing(),
    }
    return ModelCard(task, shape, **{**values, **changes})


def trainer(crops: CropSet, checkpoint: Path, options: GradingOptions = QUICK) -> GradingTrainer:
    """Two epochs of a tiny network for the left side, with a checkpoint."""
    return GradingTrainer(crops, LEFT, replace(options, epochs=2, window=1), checkpoint, "cpu")
