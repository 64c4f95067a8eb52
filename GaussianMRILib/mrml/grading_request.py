"""What a grading needs of the scene, and what it found: values without nodes, which may go to and from a thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..grading.disc import DiscGeometry
from ..grading.roi import Region, RegionOptions

if TYPE_CHECKING:
    from ..gaussians import GaussianField
    from ..grading.inputs import GradingInput
    from ..grading.model_card import Grader
    from ..grading.predict import Grade
    from ..stacks import SliceStack


@dataclass(frozen=True, eq=False)
class GradingRequest:
    """All that a grading needs, without nodes: it may go to a thread.

    Attributes:
        disc: where it is, RAS mm.
        stacks: axial series, copied from their nodes.
        graders: none to look at the region only.
        not_asked: names of networks that grade sagittal slices, which one disc has not.
        input_type: one of `AXIAL_KINDS`.
        sagittal: for the picture; None for no such series.
        gaussians: a fit of the axial series to use for "R-GS"; None to fit around the disc.
        fit: name of that fit's node and of the volumes that it was fitted to; None for no node.
        options: of the region; those of the graders' training where there are graders.
        device: for the fit.
        fit_options: further arguments of `Fitter`.
        state: "volumes" and "plane" (where one is to be labelled) as they are now, by which grades are known to be stale;
            JSON types.
    """

    disc: DiscGeometry
    stacks: tuple[SliceStack, ...]
    graders: tuple[Grader, ...] = ()
    input_type: str = "acquired"
    sagittal: SliceStack | None = None
    gaussians: GaussianField | None = None
    options: RegionOptions = field(default_factory=RegionOptions)
    device: str = "cpu"
    fit_options: dict[str, Any] = field(default_factory=dict)
    not_asked: tuple[str, ...] = ()
    fit: dict[str, Any] | None = None
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GradingResult:
    """What a grading found.

    Attributes:
        disc, region: what was graded.
        inputs: the slices that the networks saw.
        grades: one for each grader; empty where there was none.
        picture: (H, W, 3) uint8, disc and crops for checking by eye.
        not_asked: as the request's.
        fit: as the request's, where the images were made by it; else None.
        state: as the request's.
    """

    disc: DiscGeometry
    region: Region
    inputs: GradingInput
    grades: tuple[Grade, ...]
    picture: NDArray[np.uint8]
    not_asked: tuple[str, ...] = ()
    fit: dict[str, Any] | None = None
    state: dict[str, Any] = field(default_factory=dict)
