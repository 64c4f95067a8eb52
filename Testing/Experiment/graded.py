"""A lumbar phantom with stenosis at L5-S1 whose grades are known.

Disc material bulges into the lateral recess (subarticular zone) and into the foramen, on either side, and into the
spinal canal, in the midline. It takes the room of the fat there and pushes the nerve root back, which flattens where
there is no room left; in the midline it flattens the thecal sac. A grade follows from the room that remains, measured
on the anatomy and never on an image:

- subarticular stenosis: *recess depth*, mm from the back of the bulge to the front of the ligamentum flavum, 10 mm
  beside the midline;
- neural foraminal narrowing: *perineural fat*, mm from the back of the bulge to the front of the superior facet, 20 mm
  beside the midline, less the diameter of the L5 root (5.8 mm); negative where the root is flattened;
- spinal canal stenosis: *canal depth*, mm from the back of the bulge to the front of the ligamentum flavum, mean of 0.5 mm
  to the left and to the right of the midline.

The parameters below were fixed before any resampling method was applied to a graded phantom; only acquired
slices were looked at. A first phantom with thick bulges was too easy for every method, so that nothing could be told
apart: hence bulges thinner than a slice, gaps between slices, noise, normal variation of the room behind the
bulge, and reports that disagree with the truth.

The canal came later, its parameters too before any method was applied to a phantom with it. It has random numbers of its
own: those of the other two conditions are what they were, and so is a phantom whose canal has no bulge. The flank of a deep
one takes up to 0.2 mm of the recesses, which counts in their grades.

=======================================  ====================================================================
Tilt of the disc against the scanner     20 to 42 degrees, and the patient's pose of a few degrees
Bulge, subarticular                      0 to 7 mm deep at 10 mm from the midline (+- 1 mm), none in 35 %
Bulge, foraminal                         0 to 6 mm deep at 19 mm from the midline (+- 1 mm), none in 35 %
Bulge, canal                             0 to 10 mm deep in the midline, none in 35 %
Bulge, width                             Gaussian, 1/e at 3.5 to 5 mm
Bulge, height along the spine            Gaussian, 1/e at 1.8 to 3 mm, centre up to 1.2 mm from the disc's
Bulge, whole back of the disc            0 to 1.2 mm deep
Signal of the bulge in T2                0.12 to 0.26 (CSF 1, fat 0.75, root 0.4)
Signal of the bulge in T1                0.282 to 0.296 (CSF 0.13, fat 0.75, root 0.33)
Ligamentum flavum thickened by           1 to 3.5 mm
Superior facet longer to the front by    2.5 to 5.5 mm
Roots lie                                up to 0.6 mm in front of or behind their course
Recess depth: Moderate, Severe           below 9 mm, below 6.5 mm
Perineural fat: Moderate, Severe         below 4.3 mm, below 2.3 mm
Canal depth: Moderate, Severe            below 13 mm, below 10 mm
Reports                                  12.5 % give a neighbouring grade
Slices                                   4 mm thick, 0.43 mm pixels; gap 0.4 mm aligned, 1 mm straight
Noise                                    Rician, standard deviation 1/12 of the signal of fat (SNR 12), T2 and T1
=======================================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.labels import GRADES, LATERAL_TASKS, SIDES, STENOSES, Task
from GaussianMRILib.phantom.anatomy import Phantom
from GaussianMRILib.phantom.frame import Floats
from GaussianMRILib.phantom.layers import Layer, Texture
from GaussianMRILib.phantom.tissues import Contrast

from .layers import Bulge, Displacement, with_stenosis

LEVEL = "L5-S1"
CANAL = Task("spinal_canal_stenosis")
#: Deepest bulge in mm, distance of its middle from the midline in mm, by condition.
DEEPEST = {"subarticular_stenosis": 7.0, "neural_foraminal_narrowing": 6.0, "spinal_canal_stenosis": 10.0}
PLACE = {"subarticular_stenosis": 10.0, "neural_foraminal_narrowing": 19.0, "spinal_canal_stenosis": 0.0}
#: Where the remaining room is measured, mm from the midline.
MEASURED = {"subarticular_stenosis": 10.0, "neural_foraminal_narrowing": 20.0, "spinal_canal_stenosis": 0.5}
#: The room in mm below which a stenosis is moderate, and below which it is severe.
THRESHOLDS = {
    "subarticular_stenosis": (9.0, 6.5), "neural_foraminal_narrowing": (4.3, 2.3), "spinal_canal_stenosis": (13.0, 10.0),
}  # fmt: skip
NO_BULGE = 0.35  # share of zones without one
WRONG_REPORTS = 0.125  # share of labels that are a neighbour of the true grade


@dataclass(frozen=True)
class Stenosis:
    """One condition of a phantom, on one side where it has sides.

    Attributes:
        bulge: mm, depth of the disc's bulge.
        room: mm, recess depth, perineural fat or canal depth that remains.
        grade: index into `GRADES`, from the room.
        label: index into `GRADES` that is reported; differs from the grade in some.
    """

    bulge: float
    room: float
    grade: int
    label: int


class GradedPhantom(Phantom):
    """A lumbar phantom with graded stenosis at L5-S1.

    Args:
        seed: draws the individual, its stenoses and the errors of its report.
        severities: depth in mm of the bulge by task, 0 to 7 (subarticular), 6 (foraminal) or 10 (canal); drawn from the
            seed where absent.
        mirrored: the mirror image of the body: everything of its left lies on its right.

    Attributes:
        stenoses: by `Task`; of the mirrored body if it is mirrored.

    Raises:
        GaussianMRIError: a severity outside its range.

    Example:
        >>> from GaussianMRILib.grading.labels import GRADES, Task
        >>> left = Task("subarticular_stenosis", "left")
        >>> GRADES[GradedPhantom(1, {left: 7.0}).stenoses[left].grade]
        'Severe'
    """

    def __init__(
        self, seed: int = 0, severities: Mapping[Task, float] | None = None, mirrored: bool = False
    ) -> None:
        self.mirrored = mirrored
        self._wanted = {task.mirrored if mirrored else task: v for task, v in (severities or {}).items()}
        for task, depth in self._wanted.items():
            if not 0 <= depth <= DEEPEST[task.condition]:
                raise GaussianMRIError(
                    f"The bulge of a {task.title} is 0 to {DEEPEST[task.condition]:g} mm deep, got {depth:g}."
                )
        super().__init__(seed)
        lateral, canal = (np.random.default_rng([seed, stream]) for stream in (0x1ABE1, 0xCA7A1))
        found = {}
        for task in STENOSES:
            room = self._room(task)
            grade = int(sum(room < limit for limit in THRESHOLDS[task.condition]))
            label = _reported(grade, canal if task == CANAL else lateral)
            found[task.mirrored if mirrored else task] = Stenosis(
                self._bulges[task].depth, room, grade, label
            )
        self.stenoses: dict[Task, Stenosis] = {task: found[task] for task in STENOSES}

    def _layers(self, textures: dict[str, Texture]) -> list[Layer]:
        generator = np.random.default_rng([self.seed, 0xB01D])
        disc = self.build.disc(LEVEL)
        self._bulges = {task: _draw_bulge(task, disc.s, generator, self._wanted) for task in LATERAL_TASKS}
        canal = np.random.default_rng([self.seed, 0xCA7A2])
        self._bulges[CANAL] = _draw_bulge(CANAL, disc.s, canal, self._wanted)
        whole = Bulge(
            0, 0.0, float(generator.uniform(0, 1.2)), 40.0, float(generator.uniform(1.8, 3)), disc.s
        )
        flavum, facet, roots = generator.uniform([[1.0], [2.5], [-0.6]], [[3.5], [5.5], [0.6]], size=(3, 2))
        self._displacement = Displacement(
            disc,
            (*self._bulges.values(), whole),
            flavum=dict(zip(SIDES, flavum.tolist(), strict=True)),
            facet=dict(zip(SIDES, facet.tolist(), strict=True)),
            roots=dict(zip(SIDES, roots.tolist(), strict=True)),
            signal=float(generator.uniform(0.12, 0.26)),
            indents=self._bulges[CANAL].depth > 0,
        )
        return with_stenosis(super()._layers(textures), self._displacement, self.build)

    def _room(self, task: Task) -> float:
        """Recess depth, perineural fat or canal depth in mm, of the body before it is mirrored."""
        sides = {"left": (-1,), "right": (1,), "": (-1, 1)}[task.side]
        foramen = task.condition == "neural_foraminal_narrowing"
        return float(np.mean([self._displacement.room(MEASURED[task.condition] * side, foramen) for side in sides]))

    def _chunk(self, ras: NDArray[np.float64], contrast: Contrast) -> Floats:
        return super()._chunk(self._reflected(ras), contrast)

    def _reflected(self, ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the unmirrored body has what the phantom has at `ras` (N, 3)."""
        if not self.mirrored:
            return ras
        return self.frame.from_patient(self.frame.to_patient(ras) * [-1.0, 1.0, 1.0])

    def border(self, u: Floats) -> tuple[Floats, Floats]:
        """v in mm of the back and the front of the disc without bulges, u mm from the midline, at mid-height."""
        return self._displacement.border(u), self._displacement.front(u)

    def facts(self) -> dict[str, Any]:
        """What is true of the phantom, for a table: tilt, and of every task bulge, room, grade and label."""
        row: dict[str, Any] = {"seed": self.seed, "tilt_degrees": round(self.tilt, 2)}
        for task, stenosis in self.stenoses.items():
            row[f"{task.name}_bulge_mm"] = round(stenosis.bulge, 3)
            row[f"{task.name}_room_mm"] = round(stenosis.room, 3)
            row[f"{task.name}_true"] = GRADES[stenosis.grade]
            row[task.name] = GRADES[stenosis.label]
        return row


def _draw_bulge(task: Task, s: float, generator: np.random.Generator, wanted: Mapping[Task, float]) -> Bulge:
    present = generator.random() >= NO_BULGE
    depth = float(generator.uniform(0, DEEPEST[task.condition])) if present else 0.0
    place, width, height, shift = generator.uniform([-1, 3.5, 1.8, -1.2], [1, 5, 3, 1.2])
    return Bulge(
        side={"left": -1, "right": 1, "": 0}[task.side],
        place=PLACE[task.condition] + (float(place) if task.side else 0.0),
        depth=float(wanted.get(task, depth)),
        width=float(width),
        height=float(height),
        s=s + float(shift),
    )


def _reported(grade: int, generator: np.random.Generator) -> int:
    wrong, up = generator.random() < WRONG_REPORTS, generator.random() < 0.5
    neighbour = 1 if grade != 1 else (2 if up else 0)
    return neighbour if wrong else grade
