"""The tissues of the lumbar phantom, and how bright each is in a T2-weighted and in a T1-weighted spin echo.

T2: relative to cerebrospinal fluid, of a middle-aged adult. T1: density (1 - exp(-TR / T1)) exp(-TE / T2) with TR 550 ms and
TE 10 ms, for about these relaxation times at 1.5 T (T1 / T2 in ms): fluid 4000 / 2000, fat 270 / 75, marrow 550 / 50, muscle
1000 / 40, nerve and disc 1000 / 80, fibrous tissue short in T2. Fat has one signal in both, so that noise given relative
to it is as strong in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Tissue(NamedTuple):
    """Relative signal of a tissue in T2- and T1-weighted images, or how much one is above another."""

    t2: float
    t1: float


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A pulse sequence.

    Attributes:
        name: "T2" or "T1", which its images are weighted by.
        echo_time, repetition_time: ms.
        echo_train: echoes per excitation.
    """

    name: str
    echo_time: int
    repetition_time: int
    echo_train: int

    def of(self, tissue: Tissue) -> float:
        """The signal of a tissue."""
        return tissue.t1 if self.name == "T1" else tissue.t2


T2 = Contrast(name="T2", echo_time=100, repetition_time=3500, echo_train=16)
T1 = Contrast(name="T1", echo_time=10, repetition_time=550, echo_train=3)

#: Fluid and nerve.
CSF, DURA = Tissue(1.0, 0.13), Tissue(0.2, 0.12)
ROOT, EPINEURIUM, ROOTLET = Tissue(0.4, 0.33), Tissue(0.36, 0.3), Tissue(0.42, 0.27)
CORD, CORD_SURFACE = Tissue(0.52, 0.36), Tissue(0.46, 0.31)
#: Fat, and by how much its septa are darker.
FAT, DEEP_FAT, SEPTUM = Tissue(0.75, 0.75), Tissue(0.66, 0.7), Tissue(0.16, 0.2)
FORAMINAL_FAT, PERINEURAL_FAT, OIL = Tissue(0.67, 0.72), Tissue(0.72, 0.74), Tissue(0.9, 0.9)
#: Muscle, and by how much streaks of fat in it are brighter.
MUSCLE, MUSCLE_SURFACE, STREAK = Tissue(0.2, 0.27), Tissue(0.17, 0.22), Tissue(0.3, 0.4)
SKIN, BOWEL_WALL = Tissue(0.3, 0.3), Tissue(0.2, 0.25)
#: Content of the bowel, and how much it varies.
BOWEL, BOWEL_VARIES = Tissue(0.34, 0.3), Tissue(0.16, 0.1)
FASCIA, LIGAMENT, FLAVUM, INTERSPINOUS = Tissue(0.12, 0.08), Tissue(0.1, 0.07), Tissue(0.15, 0.16), Tissue(0.3, 0.36)
#: Blood that flows gives no spin echo.
VESSEL_WALL, VEIN, ARTERY = Tissue(0.2, 0.2), Tissue(0.1, 0.07), Tissue(0.04, 0.04)
CORTEX, MARROW, FACET_MARROW = Tissue(0.1, 0.06), Tissue(0.45, 0.5), Tissue(0.4, 0.47)
#: By how much the basivertebral vein, which flows slowly, differs from the marrow.
BASIVERTEBRAL = Tissue(0.3, -0.2)
JOINT_FLUID = Tissue(0.7, 0.2)
#: Lamellae of the annulus from the outermost inwards.
ANNULUS = (Tissue(0.07, 0.07), Tissue(0.1, 0.12), Tissue(0.13, 0.22), Tissue(0.2, 0.29))
#: Between annulus and nucleus; and by which share the cleft in a nucleus full of water is darker.
INNER_ANNULUS, CLEFT = Tissue(0.18, 0.29), Tissue(0.3, 0.0)


def disc_material(t2: float) -> Tissue:
    """Nucleus, or what of it bulges: the more water, the brighter in T2; in T1 there is little between them."""
    return Tissue(t2, 0.27 + 0.1 * t2)


def between(one: Tissue, other: Tissue) -> Tissue:
    """Half of both, as at the border of two tissues."""
    return Tissue(0.5 * (one.t2 + other.t2), 0.5 * (one.t1 + other.t1))
