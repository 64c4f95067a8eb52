"""Size and settings of the experiment on phantoms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.options import GradingOptions, NetworkOptions
from GaussianMRILib.grading.roi import RegionOptions


@dataclass(frozen=True)
class ExperimentOptions:
    """Size and settings of the experiment; the defaults follow the paper's numbers of patients.

    Attributes:
        train, validation, test: patients of each split.
        paired: share of the training and validation patients that have straight slices too; of the test patients all have.
            The paper has 173 of 1,076.
        seed: of the cohort, the networks and the bootstrap.
        views: of the test-time augmentation, 1 to 16.
        resamples: of the bootstrap.
        training: of every network; `input_types` are set by the training set, and without `epoch_steps` of their own epochs
            have those of `epoch_steps`.
        region: of the crops.
        fit: arguments of the Gaussian fit.

    Raises:
        GaussianMRIError: a cohort without patients in a split.
    """

    train: int = 1000
    validation: int = 250
    test: int = 250
    paired: float = 0.2
    seed: int = 0
    views: int = 16
    resamples: int = 2000
    training: GradingOptions = field(default_factory=lambda: GradingOptions(patience=15))
    region: RegionOptions = field(default_factory=RegionOptions)
    fit: Mapping[str, Any] = field(default_factory=lambda: {"preset": "fast"})

    def __post_init__(self) -> None:
        if min(self.train, self.validation, self.test) < 1 or not 0 < self.paired <= 1:
            raise GaussianMRIError(
                "An experiment needs patients in every split, and a share of paired ones above 0, at most 1; got "
                f"{self.train}, {self.validation} and {self.test} patients and the share {self.paired:g}."
            )

    @classmethod
    def reduced(cls, **changes: Any) -> ExperimentOptions:
        """An experiment of about two hours on one processor core.

        Fewer patients, narrower regions (which still hold recesses, foramina and facets), small networks and images, few
        views; every network is trained to convergence.
        """
        training = GradingOptions(
            input_size=(40, 80),
            epochs=48,
            patience=8,
            window=4,
            learning_rate=1e-3,
            warmup=0.05,
            network=NetworkOptions(widen=0.25, feed_forward=512),
        )
        settings: dict[str, Any] = {
            "train": 200, "validation": 60, "test": 150, "paired": 0.25, "views": 2, "training": training,
            "region": RegionOptions(width=64.0),
        }  # fmt: skip
        return cls(**(settings | changes))

    @property
    def epoch_steps(self) -> int:
        """Batches in which a network that learns from two types of input sees all cases; those of one type take as many."""
        cases = 2 * self.train - self.unpaired("train")
        return math.ceil(cases * (2 if self.training.mirror else 1) / self.training.batch)

    @property
    def studies(self) -> int:
        return self.train + self.validation + self.test

    def split(self, number: int) -> str:
        """Of the study of that number: unpaired training and validation come first, then paired ones, then the test."""
        bounds = [self.unpaired("train"), self.unpaired("validation")]
        bounds += [self.train - bounds[0], self.validation - bounds[1], self.test]
        for name, count in zip(("train", "validation", "train", "validation", "test"), bounds, strict=True):
            if number < count:
                return name
            number -= count
        raise IndexError(number)

    def unpaired(self, split: str) -> int:
        """Patients of the training or validation split with aligned slices only."""
        count = {"train": self.train, "validation": self.validation}[split]
        return count - max(1, round(count * self.paired))

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {**asdict(self), "fit": dict(self.fit)}
