"""Names of what is graded: conditions, sides, levels and grades, as the RSNA 2024 lumbar data set has them."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import GaussianMRIError

#: In order of severity; the order of a network's outputs.
GRADES = ("Normal/Mild", "Moderate", "Severe")
LEVELS = ("L1/L2", "L2/L3", "L3/L4", "L4/L5", "L5/S1")
SIDES = ("left", "right")
CONDITIONS = ("subarticular_stenosis", "neural_foraminal_narrowing")
#: Acquired slices aligned with the disc, acquired ones that are not, planes by voxel interpolation, planes by Gaussians.
INPUT_TYPES = ("A", "N", "R-VI", "R-GS")
#: What appears wherever a grade does.
DISCLAIMER = "Research use only. Not for diagnosis."
NOT_CALIBRATED = "Probabilities are not calibrated."


@dataclass(frozen=True, order=True)
class Task:
    """One condition on the patient's left or right, which is one network ("Rendering Novel Views of MRI", section 4.1).

    Raises:
        GaussianMRIError: no such condition or side.
    """

    condition: str
    side: str

    def __post_init__(self) -> None:
        if self.condition not in CONDITIONS or self.side not in SIDES:
            raise GaussianMRIError(
                f"'{self.side} {self.condition}' is not graded here; conditions are {', '.join(CONDITIONS)}, "
                f"sides {', '.join(SIDES)}."
            )

    @property
    def name(self) -> str:
        """As in the data set's columns: "left_subarticular_stenosis"."""
        return f"{self.side}_{self.condition}"

    @property
    def title(self) -> str:
        """For people: "left subarticular stenosis"."""
        return self.name.replace("_", " ")

    @property
    def mirrored(self) -> Task:
        """The other side's: what a mirrored image shows."""
        return Task(self.condition, SIDES[1 - SIDES.index(self.side)])

    def column(self, level: str) -> str:
        """Column of the data set's table of grades, for a level such as "L5/S1"."""
        return f"{self.name}_{level.lower().replace('/', '_')}"

    @classmethod
    def named(cls, name: str) -> Task:
        """The inverse of `name`."""
        side, _, condition = name.partition("_")
        return cls(condition, side)


TASKS = tuple(Task(condition, side) for condition in CONDITIONS for side in SIDES)
