"""Whether stacks can be taken together: one patient, one place, one contrast, somewhere in common.

What headers, and JSON files beside NIfTI, do not say (an array says nothing) is taken to agree with everything, except that
DICOM series without a frame of reference have no place in common.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from .dicom_frames import same_name
from .dicom_groups import SAME_POSITION_MM
from .slice_stack import SliceStack, as_stacks

if TYPE_CHECKING:
    from ..geometry import ImagePlane

_PATIENT_ID, _PATIENT_NAME, _STUDY_UID = "00100020", "00100010", "0020000D"
#: Echo times of one contrast differ by less than this part of the longer one.
_ECHO_TIME_PART = 0.3
#: Repetition times of one contrast differ by less than this factor, as inversion times do.
_TIME_FACTOR = 2.0
#: Beyond this (ms) tissues have recovered in spin echo: only the number of slices decides how long a scanner waits.
_RECOVERED_MS = 2000.0
#: b-values of one contrast differ by less (s/mm^2): some scanners write 5 or 50 for 0.
_B_VALUE = 60.0
#: Slices in one plane: nearer to it than this (mm) and turned against it by less than this (radians).
_ONE_PLANE = 0.01
#: Of the contrast of an image, standard deviations: coarser grey levels and lossy compression change less, while the noise
#: of two good acquisitions differs by several times this.
_COPY_PART = 0.01
_COPY_PART_CT = 0.001  # most of whose contrast is that of air
_COMPUTED_FROM = "the images of one were computed from those of the other"
_REPEATED = 0.5  # share of a stack in another one from which on one of them repeats the other
_ALONE = 0.1  # share of what a repeat shows of a plane: a patient who has moved leaves less at the edge
_POINTS_A_SIDE = 16  # of a slice, to see whether it reaches into another stack


def check_same_frame(
    stacks: Sequence[SliceStack], *, same_frame: bool = False, advice: str | None = None
) -> str | None:
    """Refuse stacks whose DICOM frames of reference differ: their positions cannot be compared.

    A stack that knows of no frames (NIfTI, NRRD, an array) is taken to agree with the others. DICOM series that name no
    frame are as if each had its own.

    Args:
        same_frame: take the positions of different frames as they are where the stacks come from one study. Some
            scanners begin a new frame with every series although the patient has not left the table; a patient who has
            moved does not show in the headers.
        advice: what to do, of callers who offer something else.

    Returns:
        a sentence on the frames whose positions were trusted; None where there is one frame.

    Raises:
        GaussianMRIError: names the stacks that do not share a frame, or, with `same_frame`, a study.
    """
    frames: dict[str, list[SliceStack]] = {}
    for stack in as_stacks(stacks):
        if frame := _frame(stack):
            frames.setdefault(frame, []).append(stack)
    if len(frames) < 2:
        return None
    groups = "; ".join(
        f"{_names(group)} ({_shown_frame(group[0])})" for group in frames.values()
    )
    studies = {_attribute(stack, _STUDY_UID) for group in frames.values() for stack in group}
    patients = {_attribute(stack, _PATIENT_ID) for group in frames.values() for stack in group}
    one_study = len(studies) == 1 and None not in studies and len(patients) == 1
    if same_frame and one_study:
        return f"positions of {len(frames)} frames of reference of one study were trusted: {groups}"
    where = f"The stacks lie in {len(frames)} different frames of reference: {groups}. "
    if same_frame:
        reason = (
            "are not known to be of one study and patient" if None in studies else "are of several studies"
        )
        raise GaussianMRIError(f"{where}They {reason}, so their positions cannot be trusted either.")
    if advice is not None:
        raise GaussianMRIError(f"{where}Their positions cannot be compared; {advice}.")
    advice = "choose stacks of one frame, or register them first."
    if one_study:
        advice = (
            "choose stacks of one frame, register them first, or, where the patient lay still from one to the other, "
            "trust their positions with same_frame=True (`gaussianmri fit --same-frame`): they are of one study."
        )
    raise GaussianMRIError(f"{where}Their positions cannot be compared; {advice}")


def in_one_frame(stacks: Sequence[SliceStack]) -> list[SliceStack]:
    """The stacks as of one frame of reference, where their positions were trusted: that of the first that has one."""
    frame = next((stack.frame_of_reference for stack in stacks if stack.frame_of_reference), None)
    return [
        replace(stack, frame_of_reference=frame, source={**stack.source, "placed": True}) for stack in stacks
    ]


def _frame(stack: SliceStack) -> str | None:
    """What stands for the frame of reference of a stack; None of one that agrees with all, or was put where it is."""
    if stack.frame_of_reference or stack.source.get("format") != "DICOM" or stack.source.get("placed"):
        return stack.frame_of_reference or None
    return f"no frame, {stack.source.get('series_uid')}"


def _shown_frame(stack: SliceStack) -> str:
    return f"frame ...{stack.frame_of_reference[-12:]}" if stack.frame_of_reference else "no frame of reference"


def check_same_patient(stacks: Sequence[SliceStack]) -> None:
    """Refuse stacks of different patients or studies, as their DICOM headers have them.

    Raises:
        GaussianMRIError: names the stacks of each patient or study, never the patient.
    """
    for what, values in _owners(stacks):
        groups: dict[str, list[SliceStack]] = {}
        for stack, value in zip(stacks, values, strict=True):
            if value:
                groups.setdefault(value, []).append(stack)
        if len(groups) > 1:
            text = " | ".join(_names(group) for group in groups.values())
            raise GaussianMRIError(
                f"The stacks are of {len(groups)} different {what}: {text}. They cannot show one anatomy in one place; "
                f"choose the stacks of one of the {what}."
            )


def check_same_contrast(stacks: Sequence[SliceStack], *, advice: str | None = None) -> None:
    """Refuse stacks whose headers, or JSON files of dcm2niix, say that they show another contrast, such as T1 and T2.

    Compared is `SliceStack.source["contrast"]`: modality, storage class, echo, repetition and inversion time, sequence,
    component (magnitude, phase, fat ...), whether it was computed from other images, b-value, contrast agent, fat
    suppression, magnetisation transfer; within a series also its "kind": echo, time point and what else tells its stacks
    apart. Refused are also images that name the others as what they were computed from.

    Args:
        advice: what to do, of callers who offer something else.

    Raises:
        GaussianMRIError: names two stacks and every value in which they differ.
    """
    together = "or take them together all the same with any_contrast=True (`gaussianmri fit --any-contrast`)"
    for one, other in itertools.combinations(stacks, 2):
        if _of_one_measurement(one, other):
            raise GaussianMRIError(
                f"{one.name} and {other.name} are one measurement: {_COMPUTED_FROM}. The one tells nothing that the other "
                f"does not; {advice or f'choose one of them, {together}'}."
            )
        if differences := _differences(one, other):
            files = " and ".join(s.source["sidecar"] for s in (one, other) if "sidecar" in s.source)
            raise GaussianMRIError(
                f"{one.name} and {other.name} show different contrasts{files and f', by {files}'}: "
                f"{'; '.join(differences)}. One image cannot "
                f"explain both; {advice or f'choose stacks of one contrast, {together}'}."
            )


def belonging_together(
    stacks: Sequence[SliceStack], *, same_frame: bool = False, any_contrast: bool = False
) -> list[list[int]]:
    """Which stacks can go into one fit, by what their headers say: numbers (from 0) of the stacks of each group, in order.

    Those of a group are of one patient, study, frame of reference and contrast. Volumes without such headers (NIfTI,
    NRRD) are each a group of their own: nothing says that they belong together. `same_frame` and `any_contrast` are those
    of a fit.
    """
    groups: list[list[int]] = []
    for n, stack in enumerate(stacks):
        for group in groups:
            reasons = (
                why_apart(stacks[m], stack, same_frame=same_frame, any_contrast=any_contrast) for m in group
            )
            if not any(reasons):
                group.append(n)
                break
        else:
            groups.append([n])
    return groups


def why_apart(
    one: SliceStack, other: SliceStack, *, same_frame: bool = False, any_contrast: bool = False
) -> str:
    """In what the headers of two stacks say that they do not belong together, in words; "" where they do."""
    if any(stack.source.get("format") != "DICOM" for stack in (one, other)):
        return "no header says that they belong together"
    for what, (a, b) in _owners((one, other)):
        if a is not None and b is not None and a != b:
            return {"patients": "another patient", "studies": "another study"}[what]
    trusted = same_frame and None not in (_attribute(one, _STUDY_UID), _attribute(other, _STUDY_UID))
    if _frame(one) != _frame(other) and not trusted:
        nameless = not (one.frame_of_reference and other.frame_of_reference)
        return "no frame of reference" if nameless else "another frame of reference"
    if any_contrast:
        return ""
    return _COMPUTED_FROM if _of_one_measurement(one, other) else "; ".join(_differences(one, other))


def why_groups_apart(
    one: Sequence[SliceStack], other: Sequence[SliceStack], *, same_frame: bool = False, any_contrast: bool = False
) -> str:
    """`why_apart` of the first two stacks of two groups that do not belong together."""
    pairs = (
        why_apart(a, b, same_frame=same_frame, any_contrast=any_contrast) for a in one for b in other
    )
    return next((reason for reason in pairs if reason), "")


def copies(stacks: Sequence[SliceStack]) -> dict[int, int]:
    """Stacks whose slices all are in another one: number (from 0) of the copy, and of the one that has its slices.

    A slice is the same where it lies in the same place and differs from the other by no more than a gain, an offset and
    `_COPY_PART` of its contrast. Noise makes acquisitions of one place differ by much more.
    """
    found: dict[int, int] = {}
    for a, b in itertools.combinations(range(len(stacks)), 2):
        if a in found or b in found:
            continue
        if _within(stacks[b], stacks[a]):
            found[b] = a
        elif _within(stacks[a], stacks[b]):
            found[a] = b
    # The one that was taken for another's original may be a copy itself.
    return {n: found.get(original, original) for n, original in found.items()}


def _within(part: SliceStack, whole: SliceStack) -> bool:
    """Whether all slices of a stack are those of another."""
    if part.shape[1:] != whole.shape[1:] or len(part.pixels) > len(whole.pixels):
        return False
    limit = _COPY_PART_CT if part.source.get("contrast", {}).get("modality") == "CT" else _COPY_PART
    for pose, pixels in zip(part.ijk_to_ras, part.pixels, strict=True):
        apart = np.abs(whole.ijk_to_ras - pose).max(axis=(1, 2))
        nearest = int(apart.argmin())
        if apart[nearest] > SAME_POSITION_MM or not _same_pixels(pixels, whole.pixels[nearest], limit):
            return False
    return True


def _same_pixels(one: NDArray[np.float32], other: NDArray[np.float32], limit: float) -> bool:
    a, b = (image - float(image.mean(dtype=np.float64)) for image in (one, other))
    aa, ab, bb = (float(np.vdot(u, v)) for u, v in ((a, a), (a, b), (b, b)))
    if aa == 0 or bb == 0:
        return aa == bb
    return ab > 0 and 1 - ab**2 / (aa * bb) < limit**2


def of_one_series(first: SliceStack, second: SliceStack) -> bool:
    """Whether both come from one DICOM series; False where that is not known."""
    series = first.source.get("series_uid")
    return bool(series) and series == second.source.get("series_uid")


def apart(stacks: Sequence[SliceStack]) -> list[list[SliceStack]]:
    """The stacks in groups that have no scanned place in common; one group where all hang together.

    Parts of one series hang together, wherever they lie.
    """
    hulls = [stack.hulls() for stack in stacks]
    points = [_points(stack) for stack in stacks]
    groups = [{k} for k in range(len(stacks))]
    for a, b in itertools.combinations(range(len(stacks)), 2):
        if of_one_series(stacks[a], stacks[b]) or _reach(points[a], hulls[b]) or _reach(points[b], hulls[a]):
            joined = [group for group in groups if a in group or b in group]
            groups = [group for group in groups if group not in joined] + [set().union(*joined)]
    return [[stacks[k] for k in sorted(group)] for group in sorted(groups, key=min)]


def without_repeats(stacks: Sequence[SliceStack], planes: Sequence[ImagePlane]) -> list[list[SliceStack]]:
    """Of each plane one acquisition of each place: interpolation would show the mean of two, and the patient moved between.

    A stack is left out where most of it, or most of another, is in both, the slices of both are of one direction, and those
    that stay show nearly all that it shows of the plane. That one stays which shows most of the plane, then most of all
    planes, then the one with the smallest voxels, then the first.
    """
    count = len(stacks)
    if count < 2 or not planes:
        return [list(stacks) for _ in planes]
    nets = [plane.points()[::8, ::8].reshape(-1, 3) for plane in planes]
    ends = np.cumsum([len(net) for net in nets])[:-1]
    inside = np.array([stack.inside(np.concatenate(nets)) for stack in stacks])
    of_all = [-round(float(shown.mean()), 1) for shown in inside]
    voxel = [round(float(np.prod(stack.pixel_spacing)) * stack.spacing, 3) for stack in stacks]
    alike = {
        frozenset(pair)
        for pair in itertools.combinations(range(count), 2)
        if direction(stacks[pair[0]]) == direction(stacks[pair[1]])
    }
    repeats = {pair for pair in alike if _one_place(*(stacks[n] for n in pair))}
    found = []
    for shown in np.split(inside, ends, axis=1):
        kept: list[int] = []
        for n in sorted(range(count), key=lambda n: (-round(float(shown[n].mean()), 1), of_all[n], voxel[n])):
            others = shown[[m for m in kept if {n, m} in alike]]
            alone = float((shown[n] & ~others.any(axis=0)).sum()) > _ALONE * shown[n].sum()
            if not any({n, m} in repeats for m in kept) or alone:
                kept.append(n)
        found.append([stacks[n] for n in sorted(kept)])
    return found


def _one_place(one: SliceStack, other: SliceStack) -> bool:
    return any(float(b.inside(_points(a)).mean()) > _REPEATED for a, b in ((one, other), (other, one)))


def direction(stack: SliceStack) -> str:
    """The anatomical plane that a stack's slices are nearest to."""
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(stack.normal)))]


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


def _owners(stacks: Sequence[SliceStack]) -> Iterator[tuple[str, list[str | None]]]:
    """Of each stack the patient, by the ID, and by the name where not every stack has an ID, and the study."""
    patients = [_attribute(stack, _PATIENT_ID) for stack in stacks]
    yield "patients", patients
    if None in patients:
        names = (stack.source.get("attributes", {}).get(_PATIENT_NAME, {}).get("Value") or [None] for stack in stacks)
        yield "patients", [same_name(" ".join((n[0] or {}).values())) or None for n in names]
    yield "studies", [_attribute(stack, _STUDY_UID) for stack in stacks]


def _attribute(stack: SliceStack, tag: str) -> str | None:
    """A value of the DICOM attributes that came with a stack; None where absent or empty."""
    values = stack.source.get("attributes", {}).get(tag, {}).get("Value") or [None]
    return str(values[0]).strip() or None if values[0] is not None else None


# ---- contrast


def _of_one_measurement(one: SliceStack, other: SliceStack) -> bool:
    """Whether a stack says that it was computed from the other, or both are planes cut through the same images."""
    (a, from_a), (b, from_b) = (
        ({*s.source.get("slice_instance_uids", ())}, {*s.source.get("computed_from", ())}) for s in (one, other)
    )
    cut = all(s.source.get("contrast", {}).get("origin") == "reformatted" for s in (one, other))
    return bool(from_a & b or from_b & a or (cut and from_a & from_b))


def _names_sources(stack: SliceStack) -> bool:
    """Whether a reformat names the images that it was cut from, so that `_of_one_measurement` knows them."""
    source = stack.source
    return bool(source.get("computed_from")) and source.get("contrast", {}).get("origin") == "reformatted"


def _differences(first: SliceStack, second: SliceStack) -> list[str]:
    """What differs, in words, "EchoTime 95 and 21 ms"; values that either side does not know are left out."""
    one, other = first.source.get("contrast", {}), second.source.get("contrast", {})
    found = []
    if of_one_series(first, second):
        found = _kinds_differ(first.source.get("kind", {}), second.source.get("kind", {}))
    for key, (label, unit, differ) in _COMPARED.items():
        a, b = one.get(key), other.get(key)
        if key == "origin" and any(_names_sources(stack) for stack in (first, second)):
            continue  # a reformat of what the other does not show is as good as an acquisition
        if a is not None and b is not None and differ(a, b) and not any(line.startswith(label) for line in found):
            found.append(f"{label} {_shown(a)} and {_shown(b)}{unit}")
    return found


def _kinds_differ(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Differences of two stacks of one series; several echoes differ in their number and time, which is one difference."""
    return [
        f"{_KINDS.get(key, key)} {one[key]} and {other[key]}"
        for key in one
        if key in other and one[key] != other[key] and not (key == "echo" and "echo time" in one)
        and not (key in ("image type", "complex component") and "component" in one)
    ]  # fmt: skip


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


def _components_differ(a: str, b: str) -> bool:
    return a != b and {a, b} != {"original", "magnitude"}  # most scanners leave the latter unsaid


def _unequal(a: object, b: object) -> bool:
    return a != b


_KINDS = {
    "echo time": "EchoTime",
    "inversion time": "InversionTime",
    "repetition time": "RepetitionTime",
    "component": "ImageType",
}
_COMPARED: dict[str, tuple[str, str, Callable[[Any, Any], bool]]] = {
    "modality": ("Modality", "", _unequal),
    "class": ("SOP class", "", _unequal),
    "echo_time": ("EchoTime", " ms", _echo_times_differ),
    "repetition_time": ("RepetitionTime", " ms", _repetition_times_differ),
    "inversion_time": ("InversionTime", " ms", _times_differ),
    "scanning_sequence": ("ScanningSequence", "", _unequal),
    "sequence": ("SequenceName", "", _unequal),
    "component": ("ImageType", "", _components_differ),
    "fat_suppression": ("fat suppression", "", _unequal),
    "magnetisation_transfer": ("magnetisation transfer", "", _unequal),
    "origin": ("ImageType", "", _unequal),
    "b_value": ("b-value", " s/mm2", _b_values_differ),
    "contrast_agent": ("contrast agent", "", _unequal),
}

def check_depth(stacks: Sequence[SliceStack]) -> None:
    """Refuse slices that all lie in one plane: nothing is known beside it.

    Raises:
        GaussianMRIError: they do; says how many.
    """
    poses = np.concatenate([stack.ijk_to_ras for stack in stacks])
    normal, first = poses[0, :3, 2], poses[0, :3, 3]
    turned = np.linalg.norm(np.cross(poses[:, :3, 2], normal), axis=1)
    if len(poses) > 1 and max(turned.max(), np.abs((poses[:, :3, 3] - first) @ normal).max()) < _ONE_PLANE:
        raise GaussianMRIError(
            f"All {len(poses)} slices lie in one plane; nothing is known beside it. If they are slices of a volume, their "
            "positions are wrong: correct ImagePositionPatient."
        )


__all__ = [
    "apart",
    "belonging_together",
    "check_depth",
    "check_same_contrast",
    "check_same_frame",
    "check_same_patient",
    "copies",
    "direction",
    "in_one_frame",
    "why_apart",
    "why_groups_apart",
    "without_repeats",
]
