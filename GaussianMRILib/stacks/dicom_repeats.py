"""Images that lie at one position of a series several times: which of them were acquired together.

A series of time points, directions or averages has each position several times. Their headers may tell them apart by a value
(an echo, a time point; see `dicom_groups`), or by no more than the order in which they came. Times are no such value: the
slices of one time point have times of their own, and interleaved acquisitions measure neighbours far apart. So images are
put in order, and the repeats are the runs through all positions in that order, or the first, second ... of each position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dicom_frames import Frame
from .dicom_times import seconds

#: Images closer than this along the normal (mm) are at one position.
SAME_POSITION_MM = 0.01
#: What repeats are called that nothing tells apart, and the remark on each.
UNORDERED = "unordered repeat"
UNORDERED_NOTE = (
    "nothing in the headers says which images of the repeated positions belong together: it may be a mixture of several "
    "repeats; put the files of each repeat into a folder of its own"
)
#: Directions of gradients whose parts differ by less are one.
_SAME_DIRECTION = 0.02
#: So many positions do not come in one order again and again by chance; fewer may, by the names of files.
_NO_CHANCE = 4
#: No series takes longer than half a day (s): what does went on over midnight, and the date does not say so.
_LONGEST = 43200.0


def positions(images: Sequence[Frame]) -> NDArray[np.float64]:
    """Along the normal of the first, mm."""
    return np.array([float(f.position @ images[0].ijk_to_ras[:3, 2]) for f in images])


def places_of(images: list[Frame]) -> tuple[int, dict[int, int]]:
    """How many images the fullest position has, and the number of the position of each image (by `id`).

    Positions that drift from one volume to the next are one as long as they are far closer to each other than to those
    of other slices, and every one has as many images.
    """
    steps = np.diff(positions(images))
    near = 0.1 * min((f.thickness for f in images if f.thickness), default=0.0)
    for limit in (max(near, SAME_POSITION_MM), SAME_POSITION_MM):
        place = np.concatenate([[0], np.cumsum(steps > limit)]).astype(int)
        counts = Counter(place.tolist())
        if min(counts.values()) == max(counts.values()) and len(counts) > 1:
            break
    return max(counts.values()), {id(f): int(p) for f, p in zip(images, place, strict=True)}


# ---- values


def directions(images: Sequence[Frame]) -> list[str | None]:
    """The direction of the diffusion gradient of each image, for people; nearly equal ones have one text."""
    known: dict[tuple[float, ...], str] = {}
    for f in images:
        if f.direction is not None and f.direction not in known:
            near = (
                text
                for other, text in known.items()
                if all(abs(a - b) < _SAME_DIRECTION for a, b in zip(other, f.direction, strict=True))
            )
            known[f.direction] = next(near, " ".join(f"{v + 0.0:.2f}" for v in f.direction))
    return [None if f.direction is None else known[f.direction] for f in images]


def dimensions(images: Sequence[Frame], places: Mapping[int, int]) -> list[Any]:
    """Of each image those of its Dimension Index Values that differ within a position; None where it has none."""
    count = {len(f.dimensions) for f in images}
    if len(count) > 1 or 0 in count:
        return [None] * len(images)
    first: dict[int, tuple[float, ...]] = {}
    for f in images:
        first.setdefault(places[id(f)], f.dimensions)
    differ = [
        n for n in range(count.pop()) if any(f.dimensions[n] != first[places[id(f)]][n] for f in images)
    ]
    if len(differ) == 1:
        return [f.dimensions[differ[0]] for f in images]
    return [".".join(f"{f.dimensions[n]:g}" for n in differ) or None for f in images]


# ---- order


def in_order(images: list[Frame], places: Mapping[int, int], repeats: int) -> list[list[Frame]] | None:
    """The repeats of images sorted by position, the first first; None where nothing tells them apart.

    Orders are by Instance Number, Trigger Time, the times, and as files and frames are stored. One in which every position
    comes once before any comes again has the repeats by itself, also where images are missing, if it can be cut in one way
    only. Files of any name may lie so by chance: their order counts where it is one order of positions again and again, of
    more than a few, or where each repeat has a file or folder of its own. In other orders the first, second ... of each
    position are taken.
    """
    counts = Counter(places[id(f)] for f in images)
    several = [count for count in counts.values() if count > 1]
    orders, stored = _orders(images, places), _stored(images)
    if 2 * len(several) > len(counts):  # no few slices that were scanned again
        for order in orders:
            if runs := _runs(order, places, repeats):
                return _by_place(runs, places)
        if runs := _stored_apart(stored, places, repeats):
            return _by_place(runs, places)
        if len({*counts.values()}) > 1:
            return None  # some are missing, and nobody knows which
    no_chance = [stored] if len(counts) >= _NO_CHANCE else []
    for order in (*orders, *no_chance):  # one position after the other, as a heart is scanned
        if np.count_nonzero(np.diff([places[id(f)] for f in order])) == len(counts) - 1:
            return as_they_come(order, places, repeats)
    if orders:
        return as_they_come(orders[0], places, repeats)
    return as_they_come(stored, places, repeats) if len(several) == 1 else None


def as_they_come(images: list[Frame], places: Mapping[int, int], repeats: int) -> list[list[Frame]]:
    """The first, second ... image of each position, each sorted by position."""
    of_place: dict[int, list[Frame]] = {place: [] for place in sorted(places[id(f)] for f in images)}
    for f in images:
        of_place[places[id(f)]].append(f)
    return [[same[n] for same in of_place.values() if n < len(same)] for n in range(repeats)]


def _orders(images: list[Frame], places: Mapping[int, int]) -> list[list[Frame]]:
    """The images in each order that is known of all of them, and differs between those of any one position."""
    times = np.array([[seconds(text) for text in f.times] for f in images], float).T  # what is not there is NaN
    for value in times:
        if np.ptp(value) > _LONGEST:
            value[value < value.min() + _LONGEST] += 2 * _LONGEST
    triggers = [f.contrast.get("trigger time") for f in images]
    values = [
        [float(f.instance_number) for f in images],
        [t if isinstance(t, float) else np.nan for t in triggers],
        *times.tolist(),
    ]
    found = []
    for value in values:
        different = {(places[id(f)], v) for f, v in zip(images, value, strict=True)}
        if np.isfinite(value).all() and len(different) == len(images):
            order = sorted(range(len(images)), key=lambda n: value[n])
            found.append([images[n] for n in order])
    return found


def _stored(images: list[Frame]) -> list[Frame]:
    """By file and frame, as they lie in the folders."""
    return sorted(images, key=lambda f: (f.path, f.index))


def _by_place(runs: list[list[Frame]], places: Mapping[int, int]) -> list[list[Frame]]:
    return [sorted(run, key=lambda f: places[id(f)]) for run in runs]


def _runs(order: list[Frame], places: Mapping[int, int], repeats: int) -> list[list[Frame]]:
    """Images in an order, cut into so many runs that have each position once; none where nothing says where to cut.

    Where the first image of a run is missing, the first of the next could be taken for it, and where the last is missing,
    that of the run before. Then the cuts are where the positions begin again, if they go one way.
    """
    late = _cut(order, places)
    if len(late) != repeats:
        return []
    if [len(run) for run in late] == [len(run) for run in reversed(_cut(order[::-1], places))]:
        return late
    steps = np.sign(np.diff([places[id(f)] for f in order]))
    one_way = [cuts for cuts in (np.flatnonzero(steps != way) + 1 for way in (1, -1)) if len(cuts) == repeats - 1]
    if len(one_way) != 1 or len({*places.values()}) < _NO_CHANCE:
        return []
    ends = [0, *one_way[0].tolist(), len(order)]
    return [order[start:stop] for start, stop in pairwise(ends)]


def _cut(order: list[Frame], places: Mapping[int, int]) -> list[list[Frame]]:
    """Images in an order, cut as late as it goes: where a position comes again."""
    runs: list[list[Frame]] = [[]]
    seen: set[int] = set()
    for f in order:
        if places[id(f)] in seen:
            runs.append([])
            seen = set()
        runs[-1].append(f)
        seen.add(places[id(f)])
    return runs


def _stored_apart(stored: list[Frame], places: Mapping[int, int], repeats: int) -> list[list[Frame]]:
    """The repeats by the files or folders of each, or by the order of files and frames; none where that may be chance."""
    holders: tuple[Callable[[Frame], Path], ...] = (lambda f: f.path, lambda f: f.path.parent)
    for holder in holders:
        held: dict[Path, list[Frame]] = {}
        for f in stored:
            held.setdefault(holder(f), []).append(f)
        if len(held) == repeats and all(len({places[id(f)] for f in one}) == len(one) for one in held.values()):
            return list(held.values())
    runs = _runs(stored, places, repeats)
    ways = [[places[id(f)] for f in run] for run in runs]
    longest = max(ways, key=len, default=[])
    alike = all([p for p in way if p in longest] == [p for p in longest if p in way] for way in ways)
    return runs if alike and len(longest) >= _NO_CHANCE else []


__all__ = [
    "SAME_POSITION_MM", "UNORDERED", "UNORDERED_NOTE", "as_they_come", "dimensions", "directions", "in_order", "places_of",
    "positions",
]  # fmt: skip
