"""Which DICOM images are one stack: by series, grid, orientation and contrast, compared with tolerances.

Headers round: two slices of one series differ in the eighth decimal of a direction, two volumes in their echo time or by
some tenths of a millimetre. So nothing here is a key of rounded numbers; images are clusters of what is nearly equal.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dicom_blocks import Group, merged_blocks, overlap
from .dicom_frames import Frame
from .dicom_repeats import (
    SAME_POSITION_MM,
    UNORDERED,
    as_they_come,
    dimensions,
    directions,
    in_order,
    places_of,
    positions,
)
from .kinds import ALWAYS, classes, same_contrast, shown, value_of

logger = logging.getLogger("GaussianMRI")

#: Slices whose axes differ by less belong to one orientation (0.1 degrees).
_SAME_ORIENTATION = 2e-3
#: Pixel spacings of one grid differ by less than this part.
_SAME_SPACING = 1e-3
#: Fields of view in one plane that lie further apart than this (mm) are different ones.
_SAME_FIELD_MM = 0.5
#: Distances of evenly spaced slices are this exact (part of the usual one, and mm); up to two slices may be missing.
_EVEN, _EVEN_MM, _MOST_MISSING = 0.02, 0.02, 2
#: In these, where slices of the several values lie in one place, interleaved or not.
_IN_ONE_PLACE = ("stack", "time point")
#: In these, where the slices are not even together and are by themselves, or repeat positions. Some count up with the
#: slices, and some scanners measure odd and even slices in two acquisitions.
_IF_UNEVEN = (
    "image type", "complex component", "inversion time", "flip angle", "repetition time", "sequence", "contrast agent",
    "trigger time", "acquisition", "field of view", "repeat",
)  # fmt: skip
#: In these only where positions repeat. They come before what has no meaning of its own (field of view, repeat).
_IF_REPEATED = ("gradient direction", "dimension index")
#: In these stacks of a series differ as images. A dimension index has no meaning of its own: it may count averages.
_OF_IMAGES = (*ALWAYS, "time point", *_IF_UNEVEN[:-2], "gradient direction")
#: In these the stacks of a series differ as images even where it did not take them to tell their positions apart.
_KINDS = ("echo", "time point")


def grouped(images: Iterable[Frame]) -> list[Group]:
    """Images by series, matrix, orientation and contrast; each group sorted by position, with its labels.

    Blocks of slices at a few angles, as they are planned along a spine, are one group (see `merged_blocks`).
    """
    by_series: dict[tuple[object, ...], list[Frame]] = {}
    joined = _series_joined(list(images))
    for frame, owner in zip(joined, _owners(joined), strict=True):
        key = (frame.series_uid, *owner, frame.frame_of_reference, frame.shape, frame.class_uid, frame.modality)
        by_series.setdefault(key, []).append(frame)
    groups: list[Group] = []
    for one_series in by_series.values():
        for same_grid in _clusters(one_series, _same_spacing):
            found: list[Group] = []
            for same_way in _clusters(same_grid, _same_orientation):
                found += _by_contrast(_sorted(same_way), [])
            groups += merged_blocks(found)
    groups.sort(
        key=lambda g: (g[1][0].series_number, g[1][0].series_uid, min(f.instance_number for f in g[1]))
    )
    return groups


def _owners(images: list[Frame]) -> list[tuple[str, str]]:
    """Patient and study of each image where its series has several, which anonymisers made one; "" where it has one."""
    known: dict[str, tuple[set[str], set[str]]] = {}
    for f in images:
        patients, studies = known.setdefault(f.series_uid, (set(), set()))
        patients |= {f.patient} - {""}
        studies |= {f.study_uid} - {""}
    for patients, studies in known.values():
        if max(len(patients), len(studies)) > 1:
            what = f"{len(patients)} patients" if len(patients) > 1 else f"{len(studies)} studies"
            logger.warning("Images of %s have one Series Instance UID; they are kept apart.", what)
    return [
        (
            f.patient if len(known[f.series_uid][0]) > 1 else "",
            f.study_uid if len(known[f.series_uid][1]) > 1 else "",
        )
        for f in images
    ]


def _clusters(images: list[Frame], same: Any) -> list[list[Frame]]:
    """Images that are the `same` as the first of their cluster."""
    clusters: list[list[Frame]] = []
    for frame in images:
        for cluster in clusters:
            if same(frame, cluster[0]):
                cluster.append(frame)
                break
        else:
            clusters.append([frame])
    return clusters


def _same_spacing(one: Frame, other: Frame) -> bool:
    a, b = one.pixel_spacing, other.pixel_spacing
    return all(abs(x - y) <= _SAME_SPACING * y for x, y in zip(a, b, strict=True))


def _same_orientation(one: Frame, other: Frame) -> bool:
    return bool(np.abs(one.orientation - other.orientation).max() < _SAME_ORIENTATION)


def _series_joined(images: list[Frame]) -> list[Frame]:
    """Images of series of one slice each, which an anonymiser made of one series, under the first one's UID.

    They have one study, number, description and frame of reference, one grid and orientation, one contrast, and each a
    place of its own.
    """
    sizes = Counter(f.series_uid for f in images)
    alike: dict[tuple[object, ...], list[Frame]] = {}
    for f in images:
        if sizes[f.series_uid] == 1 and f.study_uid:
            owner = (f.patient, f.study_uid, f.frame_of_reference)
            key = (*owner, f.series_number, f.description, f.shape, f.class_uid, f.modality)
            alike.setdefault(key, []).append(f)
    for same_header in alike.values():
        for same in _clusters(same_header, _one_series):
            normal = same[0].ijk_to_ras[:3, 2]
            places = np.sort([float(f.position @ normal) for f in same])
            if len(same) < 2 or np.diff(places).min() <= SAME_POSITION_MM:
                continue
            what = f"{len(same)} series of one slice each look like one series whose UIDs an anonymiser changed"
            if same[0].frame_of_reference is None:
                logger.warning("%s, but no frame of reference says so; they stay apart.", what)
                continue
            logger.warning("%s; they are taken for one.", what)
            for f in same:
                f.series_uid = same[0].series_uid
    return images


def _one_series(one: Frame, other: Frame) -> bool:
    return _same_spacing(one, other) and _same_orientation(one, other) and same_contrast(one, other)


def _sorted(images: list[Frame]) -> list[Frame]:
    normal = images[0].ijk_to_ras[:3, 2]
    return sorted(images, key=lambda f: (float(f.position @ normal), f.instance_number, f.index))


# ---- contrast


def _parts(images: list[Frame], label: str, places: Mapping[int, int]) -> list[tuple[str, list[Frame]]]:
    """The images of each value of `label`, in the order of the values, with the value for people."""
    values: list[Any]
    if label in ("field of view", "repeat"):
        own = _fields_of_view(images) if label == "field of view" else _runs(images)
        values = [float(c + 1) for c in own]
    else:
        if label == "gradient direction":
            values = directions(images)
        elif label == "dimension index":
            values = dimensions(images, places)
        else:
            values = [value_of(f, label) for f in images]
        own = classes(label, values)
    return [
        (
            shown(values[own.index(number)]),
            [f for f, n in zip(images, own, strict=True) if n == number],
        )
        for number in sorted(set(own))
    ]


def _fields_of_view(images: list[Frame]) -> list[int]:
    """For each image the number of its place within its plane; what drifts along the stack (a tilt) is one place."""
    axes = images[0].orientation.reshape(2, 3)
    offsets = np.stack([axes @ f.position for f in images])
    found = _places(offsets)
    if max(found) < len(images) // 2:
        return found
    terms = np.stack([np.ones(len(images)), positions(images)], axis=1)
    return _places(offsets - terms @ np.linalg.lstsq(terms, offsets, rcond=None)[0])


def _runs(images: list[Frame]) -> list[int]:
    """For each image, sorted by position, the number of the run through the volume, by Instance Number, that it is of.

    Where images have one number and frame number, the order is not known, and all are of one run.
    """
    if len({(f.instance_number, f.index) for f in images}) < len(images):
        return [0] * len(images)
    order = sorted(range(len(images)), key=lambda n: (images[n].instance_number, images[n].index))
    ways = np.sign(np.diff(order))
    up = ways.sum() >= 0
    own = np.empty(len(images), int)
    own[order] = np.concatenate([[0], np.cumsum(ways < 0 if up else ways > 0)])
    numbers: list[int] = own.tolist()
    return numbers


def _places(offsets: NDArray[np.float64]) -> list[int]:
    """Numbers of places (N, 2), mm, cut where the next along either axis is further away than one field allows."""
    number = np.zeros(len(offsets), int)
    for along in offsets.T:
        order = np.argsort(along)
        own = np.empty(len(along), int)
        own[order] = np.concatenate([[0], np.cumsum(np.diff(along[order]) > _SAME_FIELD_MM)])
        number = number * (own.max() + 1) + own
    places: list[int] = np.unique(number, return_inverse=True)[1].tolist()
    return places


def _by_contrast(images: list[Frame], labels: list[str]) -> list[Group]:
    """Split images of one orientation, sorted by position, into stacks that show each one thing and have a position once."""
    repeats, places = places_of(images)
    for label in (*ALWAYS, *_IN_ONE_PLACE, *_IF_UNEVEN[:-2], *_IF_REPEATED, *_IF_UNEVEN[-2:]):
        parts = _parts(images, label, places)
        if len(parts) < 2:
            continue
        sizes = [len(part) for _, part in parts]
        unknown = label in ALWAYS and any(value_of(f, label) is None for f in images)
        # One that counts up with the slices tells nothing apart.
        several = len(parts) <= max(2, len(images) // 2)
        once = sum(len({places[id(f)] for f in part}) for _, part in parts)
        told_apart = len(parts) <= repeats and once > len({*places.values()})
        if label in ALWAYS:
            split = told_apart or (several and not unknown)
        elif label in _IF_REPEATED:
            split = told_apart
        elif label in _IN_ONE_PLACE:
            split = told_apart or (several and min(sizes) > 1 and _in_one_place(parts))
        elif label == "repeat" and _even(list({places[id(f)]: f for f in images}.values())):
            split = False  # `in_order` knows more of whole positions; runs are for those that drift
        else:
            split = told_apart or (several and min(sizes) > 1 and _only_even_apart(images, parts))
        if split:
            return [
                group for value, part in parts for group in _by_contrast(part, [*labels, f"{label} {value}"])
            ]
    if repeats == 1:
        return [(labels, images)]
    # No value tells the repeats apart: take them in the order of acquisition.
    parts_in_order = in_order(images, places, repeats)
    what = "repeat" if parts_in_order else UNORDERED
    return [
        ([*labels, f"{what} {n + 1}"], part)
        for n, part in enumerate(parts_in_order or as_they_come(images, places, repeats))
    ]


def _even(images: list[Frame]) -> bool:
    steps = np.diff(positions(images))
    if not len(steps):
        return True
    usual = float(np.median(steps))
    if usual <= SAME_POSITION_MM:
        return False
    times = np.round(steps / usual)
    exact = np.abs(steps - times * usual) <= _EVEN * usual + _EVEN_MM
    return bool(np.all(exact & (times >= 1) & (times <= 1 + _MOST_MISSING)))


def _in_one_place(parts: list[tuple[str, list[Frame]]]) -> bool:
    """Whether any two parts cover each other by more than half."""
    normal = parts[0][1][0].ijk_to_ras[:3, 2]
    return any(
        overlap(one, other, normal) > 0.5 for n, (_, one) in enumerate(parts) for _, other in parts[n + 1 :]
    )


def _only_even_apart(images: list[Frame], parts: list[tuple[str, list[Frame]]]) -> bool:
    return not _even(images) and all(_even(part) for _, part in parts) and _in_one_place(parts)


def kinds_within_series(groups: Sequence[Group]) -> list[dict[str, str]]:
    """What tells each group from the others of its series as an image, not only as a place: label to value."""
    result = []
    for labels, _ in groups:
        pairs = [(label, text[len(label) + 1 :]) for text in labels for label in _OF_IMAGES if text.startswith(f"{label} ")]
        # "echo time 90" begins with "echo" too.
        result.append({label: value for label, value in pairs if not (label == "echo" and value.startswith("time "))})
    by_series: dict[str, list[int]] = {}
    for n, (_, frames) in enumerate(groups):
        by_series.setdefault(frames[0].series_uid, []).append(n)
    for members in by_series.values():
        for label in _KINDS:
            own = [{value_of(f, label) for f in groups[n][1]} for n in members]
            if all(len(each) == 1 and None not in each for each in own):
                for n, each in zip(members, own, strict=True):
                    result[n].setdefault(label, shown(each.pop()))
    return result


def names_of(groups: Sequence[Group]) -> list[str]:
    """A name for each group: the series' description, what tells it from the series' other groups, a number."""
    per_series = Counter(group[0].series_uid for _, group in groups)
    names: list[str] = []
    for labels, group in groups:
        parts = [group[0].description or f"series {group[0].series_number}"]
        if per_series[group[0].series_uid] > 1:
            parts.append(("sagittal", "coronal", "axial")[int(np.argmax(np.abs(group[0].ijk_to_ras[:3, 2])))])
        names.append(", ".join(parts + [label.removeprefix("component ") for label in labels]))
    count: Counter[str] = Counter()
    for n, name in enumerate(names):
        count[name] += 1
        if names.count(name) > 1 and count[name] > 1:
            names[n] = f"{name} ({count[name]})"
    return names


__all__ = ["SAME_POSITION_MM", "grouped", "kinds_within_series", "names_of"]
