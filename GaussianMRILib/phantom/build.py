"""The measures of one phantom: its discs and its body."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = ("L5-S1", "L4-L5", "L3-L4", "L2-L3", "L1-L2", "T12-L1")


@dataclass(frozen=True)
class Disc:
    """One intervertebral disc: place along the spine and shape, mm."""

    name: str
    s: float
    height: float  # in the middle
    wedge: float  # anterior minus posterior height
    half_width: float
    half_depth: float
    nucleus: float  # relative T2 signal, by its water


@dataclass(frozen=True)
class Build:
    """The measures of one phantom, drawn from its seed."""

    discs: tuple[Disc, ...]  # from S3-S4 upwards
    sac: float  # scale of the thecal sac
    fat: float  # mm, thickness of the subcutaneous fat
    infiltration: float  # share of fat in muscle

    @property
    def lumbar(self) -> tuple[Disc, ...]:
        """The mobile discs, from L5-S1 upwards."""
        return self.discs[-len(LEVELS) :]

    def disc(self, name: str) -> Disc:
        """The disc of a level such as "L5-S1"."""
        return next(disc for disc in self.discs if disc.name == name)
