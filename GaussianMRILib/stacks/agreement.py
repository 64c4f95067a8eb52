"""Whether stacks can be taken together: one patient, one place, one contrast, somewhere in common.

What headers do not say (a NIfTI file, an array) is taken to agree with everything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import GaussianMRIError
from .slice_stack import SliceStack

_PATIENT_ID, _STUDY_UID = "00100020", "0020000D"
#: Echo times of one contrast differ by less than this part of the longer one.
_ECHO_TIME_PART = 0.3
#: Repetition times of one contrast differ by less than this factor, as inversion times do.
_TIME_FACTOR = 2.0
#: Beyond this (ms) tissues have recovered in spin echo: only the number of slices decides how long a scanner waits.
_RECOVERED_MS = 2000.0
#: b-values of one contrast differ by less (s/mm^2): some scanners write 5 or 50 for 0.
_B_VALUE = 60.0
_POINTS_A_SIDE = 16  # of a slice, to see whether it reaches into another stack


def check_same_frame(stacks: Sequence[SliceStack], *, same_frame: bool = False) -> str | None:
    """Refuse stacks whose DICOM frames of reference differ: their positions cannot be compared.

    A stack without a frame of reference (NIfTI, NRRD, an array) is taken to agree with the others.

    Args:
        same_frame: take the positions of different frames as they are where the stacks come from one study. Some
            scanners begin a new frame with every series although the patient has not left the table; a patient who has
            moved does not show in the headers.

    Returns:
        a sentence on the frames whose positions were trusted; None where there is one frame.

    Raises:
        GaussianMRIError: names the stacks that do not share a frame, or, with `same_frame`, a study.
    """
    frames: dict[str, list[SliceStack]] = {}
    for stack in stacks:
        if stack.frame_of_reference:
            frames.setdefault(stack.frame_of_reference, []).append(stack)
    if len(frames) < 2:
        return None
    groups = "; ".join(f"{_names(group)} (frame ...{uid[-12:]})" for uid, group in frames.items())
    studies = {_attribute(stack, _STUDY_UID) for group in frames.values() for stack in group}
    patients = {_attribute(stack, _PATIENT_ID) for group in frames.values() for stack in group}
    one_study = len(studies) == 1 and None not in studies and len(patients) == 1
    if same_frame and one_study:
        return f"positions of {len(frames)} frames of reference of one study were trusted: {groups}"
    where = f"The stacks lie in {len(frames)} different frames of reference: {groups}. "
    if same_frame:
        reason = "are not known to be of one study and patient" if None in studies else "are of several studies"
        raise GaussianMRIError(f"{where}They {reason}, so their positions cannot be trusted either.")
    advice = "choose stacks of one frame, or register them first."
    if one_study:
        advice = (
            "choose stacks of one frame, register them first, or, where the patient lay still from one to the other, "
            "trust their positions with same_frame=True (`gaussianmri fit --same-frame`): they are of one study."
        )
    raise GaussianMRIError(f"{where}Their positions cannot be compared; {advice}")


def check_same_patient(stacks: Sequence[SliceStack]) -> None:
    """Refuse stacks of different patients or studies, as their DICOM headers have them.

    Raises:
        GaussianMRIError: names the stacks of each patient or study, never the patient.
    """
    for tag, what in ((_PATIENT_ID, "patients"), (_STUDY_UID, "studies")):
        groups: dict[str, list[SliceStack]] = {}
        for stack in stacks:
            if value := _attribute(stack, tag):
                groups.setdefault(value, []).append(stack)
        if len(groups) > 1:
            text = " | ".join(_names(group) for group in groups.values())
            raise GaussianMRIError(
                f"The stacks are of {len(groups)} different {what}: {text}. They cannot show one anatomy in one place; "
                f"choose the stacks of one of the {what}."
            )


def check_same_contrast(stacks: Sequence[SliceStack]) -> None:
    """Refuse stacks whose headers say that they show another contrast, such as T1 and T2.

    Compared is `SliceStack.source["contrast"]`: modality, echo, repetition and inversion time, sequence, component
    (magnitude, phase, fat ...), b-value, contrast agent.

    Raises:
        GaussianMRIError: names two stacks and every value in which they differ.
    """
    for one, other in itertools.combinations(stacks, 2):
        differences = _differences(one.source.get("contrast", {}), other.source.get("contrast", {}))
        if differences:
            raise GaussianMRIError(
                f"{one.name} and {other.name} show different contrasts: {'; '.join(differences)}. One image cannot "
                "explain both; choose stacks of one contrast, or take them together all the same with any_contrast=True "
                "(`gaussianmri fit --any-contrast`)."
            )


def apart(stacks: Sequence[SliceStack]) -> list[list[SliceStack]]:
    """The stacks in groups that have no scanned place in common; one group where all hang together."""
    hulls = [stack.hulls() for stack in stacks]
    points = [_points(stack) for stack in stacks]
    groups = [{k} for k in range(len(stacks))]
    for a, b in itertools.combinations(range(len(stacks)), 2):
        if _reach(points[a], hulls[b]) or _reach(points[b], hulls[a]):
            joined = [group for group in groups if a in group or b in group]
            groups = [group for group in groups if group not in joined] + [set().union(*joined)]
    return [[stacks[k] for k in sorted(group)] for group in sorted(groups, key=min)]


def _points(stack: SliceStack) -> np.ndarray:
    """A net of points (N, 3), RAS mm, on every slice."""
    _, rows, columns = stack.shape
    j, i = np.meshgrid(
        np.linspace(0, rows - 1, _POINTS_A_SIDE), np.linspace(0, columns - 1, _POINTS_A_SIDE), indexing="ij"
    )
    pixel = np.stack([i.ravel(), j.ravel(), np.zeros(i.size), np.ones(i.size)])
    return np.asarray((stack.ijk_to_ras @ pixel)[:, :3].transpose(0, 2, 1).reshape(-1, 3))


def _reach(points: np.ndarray, hulls: Sequence[np.ndarray]) -> bool:
    from ..geometry.affine import inside_hull

    return any(bool(inside_hull(hull, points).any()) for hull in hulls)


def _names(stacks: Sequence[SliceStack]) -> str:
    return ", ".join(stack.name for stack in stacks)


def _attribute(stack: SliceStack, tag: str) -> str | None:
    """A value of the DICOM attributes that came with a stack; None where absent or empty."""
    values = stack.source.get("attributes", {}).get(tag, {}).get("Value") or [None]
    return str(values[0]).strip() or None if values[0] is not None else None


# ---- contrast


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs, in words, "EchoTime 95 and 21 ms"; values that either side does not know are left out."""
    found = []
    for key, (label, unit, differ) in _COMPARED.items():
        a, b = one.get(key), other.get(key)
        if a is not None and b is not None and differ(a, b):
            found.append(f"{label} {_shown(a)} and {_shown(b)}{unit}")
    return found


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "present" if value else "absent"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _echo_times_differ(a: float, b: float) -> bool:
    return abs(a - b) > _ECHO_TIME_PART * max(a, b)


def _times_differ(a: float, b: float) -> bool:
    return max(a, b) > _TIME_FACTOR * min(a, b)


def _repetition_times_differ(a: float, b: float) -> bool:
    return _times_differ(a, b) and min(a, b) < _RECOVERED_MS


def _b_values_differ(a: float, b: float) -> bool:
    return abs(a - b) > _B_VALUE


def _unequal(a: object, b: object) -> bool:
    return a != b


_COMPARED: dict[str, tuple[str, str, Callable[[Any, Any], bool]]] = {
    "modality": ("Modality", "", _unequal),
    "echo_time": ("EchoTime", " ms", _echo_times_differ),
    "repetition_time": ("RepetitionTime", " ms", _repetition_times_differ),
    "inversion_time": ("InversionTime", " ms", _times_differ),
    "scanning_sequence": ("ScanningSequence", "", _unequal),
    "sequence": ("SequenceName", "", _unequal),
    "component": ("ImageType", "", _unequal),
    "b_value": ("b-value", " s/mm2", _b_values_differ),
    "contrast_agent": ("contrast agent", "", _unequal),
}

__all__ = ["apart", "check_same_contrast", "check_same_frame", "check_same_patient"]
