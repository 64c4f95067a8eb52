"""Names of what is graded: conditions, sides, levels and grades, as the RSNA 2024 lumbar data set has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import GaussianMRIError

#: In order of severity; the order of a network's outputs.
GRADES = ("Normal/Mild", "Moderate", "Severe")
LEVELS = ("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1")
SIDES = ("left", "right")
#: Conditions that each side has on its own.
LATERAL = ("subarticular_stenosis", "neural_foraminal_narrowing")
CONDITIONS = (*LATERAL, "spinal_canal_stenosis", "disc_degeneration")
#: Acquired sagittal slices, T1- and T2-weighted.
SAGITTAL_TYPES = ("S-T1", "S-T2")
#: Acquired slices aligned with the disc, acquired ones that are not, planes by voxel interpolation, planes by Gaussians.
AXIAL_TYPES = ("A", "N", "R-VI", "R-GS")
INPUT_TYPES = (*AXIAL_TYPES, *SAGITTAL_TYPES)
#: What appears wherever a grade does.
DISCLAIMER = "Research use only. Not for diagnosis."
NOT_CALIBRATED = "Probabilities are not calibrated."


@dataclass(frozen=True, order=True)
class Task:
    """One condition, of `LATERAL` on one side: what one network grades.

    Raises:
        GaussianMRIError: no such condition or side.
    """

    condition: str
    side: str = ""

    def __post_init__(self) -> None:
        sides = SIDES if self.condition in LATERAL else ("",)
        if self.condition not in CONDITIONS or self.side not in sides:
            raise GaussianMRIError(
                f"'{self.name}' is not graded here; conditions are {', '.join(CONDITIONS)}, and {' and '.join(LATERAL)} "
                f"have a side, {' or '.join(SIDES)}."
            )

    @property
    def name(self) -> str:
        """As in the data set's columns: "left_subarticular_stenosis", "spinal_canal_stenosis"."""
        return f"{self.side}_{self.condition}" if self.side else self.condition

    @property
    def title(self) -> str:
        """For people: "left subarticular stenosis"."""
        return self.name.replace("_", " ")

    @property
    def mirrored(self) -> Task:
        """What a mirrored image shows: the other side's, where there are sides."""
        return Task(self.condition, SIDES[1 - SIDES.index(self.side)]) if self.side else self

    def column(self, level: str) -> str:
        """Column of the data set's table of grades, for a level such as "L5/S1"."""
        return f"{self.name}_{level.lower().replace('/', '_')}"

    @classmethod
    def named(cls, name: str) -> Task:
        """The inverse of `name`."""
        side, _, condition = name.partition("_")
        return cls(condition, side) if side in SIDES else cls(name)


LATERAL_TASKS = tuple(Task(condition, side) for condition in LATERAL for side in SIDES)
#: What a study is graded for, in the order of its table: the five of the RSNA 2024 data.
STENOSES = (Task("spinal_canal_stenosis"), *LATERAL_TASKS)
TASKS = (*STENOSES, Task("disc_degeneration"))


def is_sagittal(input_types: Iterable[str]) -> bool:
    """Whether kinds of images are sagittal; their slices then run from the patient's right to the left."""
    return any(kind in SAGITTAL_TYPES for kind in input_types)
