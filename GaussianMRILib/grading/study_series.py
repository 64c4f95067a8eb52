"""Which series of a study show what networks were trained on: axial T2, sagittal T1 and T2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..stacks import SliceStack, check_same_patient
from .rsna_series import oriented_slabs
from .spine_labels import lies_on_grid

if TYPE_CHECKING:
    from ..labels import LabelFile

#: ms. Spin echoes of the lumbar spine are T2-weighted from here on, and T1-weighted up to there.
_LONG_ECHO, _SHORT_ECHO = 60.0, 40.0
_SHORT_REPETITION = 1200.0
#: ms of inversion that null fat (STIR, read as T2) and fluid (T1 FLAIR).
_STIR, _T1_FLAIR = (80.0, 300.0), 500.0
_WORDS = re.compile(r"(?<![a-z0-9])(?:(t1)|(t2|stir))(?![0-9*])", re.IGNORECASE)
_DIFFUSION = re.compile(r"(?<![a-z0-9])(?:dwi|dti|adc|diff|diffusion)(?![a-z])", re.IGNORECASE)
_INVERTED = re.compile(r"(?<![a-z0-9])(?:stir|tirm|flair)(?![a-z])", re.IGNORECASE)
_AXIAL_COSINE = 0.5  # within 60 degrees: a disc at L5/S1 tilts by up to 45
_SHOWN = (None, "original", "magnitude", "in phase")


@dataclass(frozen=True)
class StudySeries:
    """Series by what they show.

    Attributes:
        axial: slabs of axial T2 series.
        sagittal: series by "S-T1" and "S-T2".
        remarks: which other series are not used, and why.
    """

    axial: tuple[SliceStack, ...]
    sagittal: dict[str, SliceStack]
    remarks: tuple[str, ...] = ()

    def lacking(self, kind: str) -> str:
        """Why no image of a kind (of `INPUT_TYPES`) can be made; "" where it can."""
        if kind.startswith("S-"):
            return "" if kind in self.sagittal else f"the study has no sagittal {kind[2:]} series"
        return "" if self.axial else "the study has no axial T2 series"


def weighting(stack: SliceStack) -> str:
    """ "T1", "T2" (STIR included) or "", by echo, repetition and inversion time, else by the description or file's name."""
    said = stack.source.get("contrast", {})
    echo, repetition, inversion = (said.get(f"{name}_time") for name in ("echo", "repetition", "inversion"))
    if echo is not None:
        if echo >= _LONG_ECHO or (inversion and _STIR[0] <= inversion <= _STIR[1]):
            return "T2"
        if echo <= _SHORT_ECHO and ((repetition and repetition <= _SHORT_REPETITION) or (inversion or 0) >= _T1_FLAIR):
            return "T1"
    found = {"T1" if one else "T2" for one, _ in _WORDS.findall(_described(stack))}
    return found.pop() if len(found) == 1 else ""


def _described(stack: SliceStack) -> str:
    described = stack.source.get("attributes", {}).get("0008103E", {}).get("Value") or [stack.name]
    return str(described[0])


def _echo_planar(stack: SliceStack) -> str:
    """What a series is that has the echo time of T2 and shows something else; "" of others.

    A b-value of 0 says nothing: GE writes one into images of every kind.
    """
    said = stack.source.get("contrast", {})
    if (said.get("b_value") or 0) > 0 or _DIFFUSION.search(_described(stack)):
        return "diffusion-weighted"
    return "echo-planar" if "EP" in (said.get("scanning_sequence") or "").split("/") else ""


def share_inside(stack: SliceStack, points: NDArray[np.float64]) -> float:
    """Share of RAS points (N, 3), mm, in a series, 0 to 1; 0 of none."""
    return float(stack.inside(points).mean()) if len(points) else 0.0


def series_of_study(
    stacks: Sequence[SliceStack],
    labels: LabelFile | None = None,
    name: str = "",
    *,
    discs: NDArray[np.float64] | None = None,
) -> StudySeries:
    """Sort the series of a study.

    Args:
        stacks: all of it, of one patient.
        labels: the label map that discs come from: only series in its frame of reference are used.
        name: of the label map, for messages.
        discs: (N, 3) RAS mm, points of the discs that are graded: of several sagittal series one that shows them is taken.

    Raises:
        GaussianMRIError: series of several patients or studies, or of several frames of reference, and nothing says
            which one the label map is in.
    """
    check_same_patient(stacks)
    remarks: list[str] = []
    usable = _one_frame(stacks, labels, name, remarks)
    axial: list[SliceStack] = []
    found: dict[str, list[SliceStack]] = {"S-T1": [], "S-T2": []}
    unsaid: list[SliceStack] = []
    for stack in usable:
        said, contrast = weighting(stack), stack.source.get("contrast", {})
        if not stack.is_sagittal and abs(stack.normal[2]) < _AXIAL_COSINE:
            remarks.append(f"{stack.name} is not used: it is neither axial nor sagittal")
        elif what := _echo_planar(stack):
            remarks.append(f"{stack.name} is not used: it is {what}")
        elif contrast.get("component") not in _SHOWN:
            remarks.append(f"{stack.name} is not used: it shows {contrast['component']}")
        elif said == "T1" and contrast.get("contrast_agent"):
            remarks.append(f"{stack.name} is not used: T1 with a contrast agent")
        elif stack.is_sagittal:
            if said:
                found[f"S-{said}"].append(stack)
            else:
                remarks.append(f"{stack.name} is not used: neither its header nor its name says whether it is T1 or T2")
        elif said == "T2":
            axial.append(stack)
        elif said:
            remarks.append(f"{stack.name} is not used: axial {said}")
        else:
            unsaid.append(stack)
    if unsaid and not axial:
        axial = unsaid
        remarks += [f"{stack.name} is taken as axial T2; neither its header nor its name says so" for stack in unsaid]
    else:
        remarks += [f"{stack.name} is not used: nothing says that it is T2" for stack in unsaid]
    places = np.empty((0, 3)) if discs is None else discs
    sagittal = {kind: _best(kind, group, labels, places, remarks) for kind, group in found.items() if group}
    return StudySeries(tuple(slab for stack in axial for slab in oriented_slabs(stack)), sagittal, tuple(remarks))


def _one_frame(
    stacks: Sequence[SliceStack], labels: LabelFile | None, name: str, remarks: list[str]
) -> list[SliceStack]:
    frames = list(dict.fromkeys(stack.frame_of_reference for stack in stacks if stack.frame_of_reference))
    if len(frames) < 2:
        return list(stacks)
    own = [] if labels is None else [s for s in stacks if s.frame_of_reference and lies_on_grid(labels, s)]
    chosen = {stack.frame_of_reference for stack in own}
    if len(chosen) != 1:
        raise GaussianMRIError(
            f"The study has {len(frames)} frames of reference (the patient moved), and {name or 'nothing'} does not say "
            "which one it is in, since it lies on the grid of no series. Give only series of one frame (--stack), or a "
            "label map on the grid of the series that it was made from."
        )
    frame = chosen.pop()
    for stack in stacks:
        if stack.frame_of_reference not in (frame, None):
            remarks.append(f"{stack.name} is not used: another frame of reference than the label map's (patient moved)")
    return [stack for stack in stacks if stack.frame_of_reference in (frame, None)]


def _best(
    kind: str,
    group: list[SliceStack],
    labels: LabelFile | None,
    discs: NDArray[np.float64],
    remarks: list[str],
) -> SliceStack:
    """Of several series one that shows the discs, then the segmented one, one without inversion, that with most slices."""

    def rank(stack: SliceStack) -> tuple[float, bool, bool, int]:
        # To a tenth: voxels at the edge of a series are no reason to take another one.
        share = round(share_inside(stack, discs), 1)
        return share, labels is not None and lies_on_grid(labels, stack), not _inverted(stack), stack.shape[0]

    best = max(group, key=rank)
    others = [stack for stack in group if stack is not best]
    remarks += [f"{stack.name} is not used: of several sagittal {kind[2:]} series {best.name} is" for stack in others]
    return best


def _inverted(stack: SliceStack) -> bool:
    """Whether a series was prepared by an inversion, as STIR is, whose inversion time not every header has."""
    said = stack.source.get("contrast", {})
    by_header = said.get("inversion_time") or "IR" in (said.get("scanning_sequence") or "").split("/")
    return bool(by_header or _INVERTED.search(_described(stack)))
