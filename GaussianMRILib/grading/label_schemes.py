"""What the values and names in label maps of TotalSpineSeg and SPINEPS mean.

Sources of the values: README.md and `resources/labels_maps/tss_map.json` of TotalSpineSeg (r20241005 to 20260429; other
values in r20240220 to r20240921); README.md of SPINEPS (v1.0 to v2.0.0) and `vert_constants.py` of TPTBox (v0.8.1),
whose numbers SPINEPS writes. The numbers of SPINEPS's vertebrae are levels only where its labelling network (VERIDAH, since
v1.4) ran; otherwise it counts the vertebrae from the top.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from ..labels import LabelFile

#: Vertebrae from the head down; L6, L7 and T13 are more than most people have.
SPINE = (*(f"C{n}" for n in range(1, 8)), *(f"T{n}" for n in range(1, 14)), *(f"L{n}" for n in range(1, 8)), "S1")
EXTRA = ("T13", "L6", "L7")


@dataclass(frozen=True)
class Scheme:
    """What the values of a label map mean.

    Attributes:
        name: of the program, and of which of its files.
        vertebrae: value of each vertebra, by name; "S1" is the sacrum.
        discs: value of each disc, by the names of the vertebrae above and below ("L5/S1").
        canal: values of the canal: what is around the cord, and the cord.
        sides: pairs of values, of the patient's left and right.
    """

    name: str
    vertebrae: Mapping[str, int] = field(default_factory=dict)
    discs: Mapping[str, int] = field(default_factory=dict)
    canal: tuple[int, ...] = ()
    sides: tuple[tuple[int, int], ...] = ()


def _run(first: str, last: str, value: int, step: int = 1) -> dict[str, int]:
    names = SPINE[SPINE.index(first) : SPINE.index(last) + 1]
    return {name: value + step * n for n, name in enumerate(names)}


def _below(vertebrae: Mapping[str, int], spine: Sequence[str]) -> dict[str, int]:
    """Discs by the values of the vertebrae above them, of a spine without the others."""
    return {f"{one}/{other}": vertebrae[one] for one, other in pairwise(spine) if one in vertebrae}


_USUAL = tuple(name for name in SPINE if name not in EXTRA)
_TSS = _run("C1", "C7", 11) | _run("T1", "T12", 21) | _run("L1", "L7", 41) | {"S1": 50}
_TSS_DISCS = (
    _below(_run("C2", "C6", 63) | {"C7": 71}, _USUAL)
    | _below(_run("T1", "T11", 72) | {"T12": 91}, _USUAL)
    | _below(_run("L1", "L4", 92), _USUAL)
    | {"L5/L6": 96, "L5/S1": 100}
)
_OLD = {"S1": 92} | {name: 18 + n for n, name in enumerate(reversed(_USUAL[:-1]))}
_OLD_DISCS = {f"{a}/{b}": 202 + n for n, (a, b) in enumerate(zip(_USUAL[-2:0:-1], _USUAL[:1:-1], strict=False))}
_TPT = _run("C1", "C7", 1) | _run("T1", "T12", 8) | {"T13": 28} | _run("L1", "L6", 20) | {"S1": 26}

TOTALSPINESEG = Scheme("TotalSpineSeg", _TSS, _TSS_DISCS, (2, 1))
TOTALSPINESEG_2024 = Scheme("TotalSpineSeg before r20241005", _OLD, _OLD_DISCS, (201, 200))
SPINEPS_VERTEBRAE = Scheme("SPINEPS seg-vert", _TPT)  # its discs are named by what the file holds, see `spineps_discs`
SPINEPS_REGIONS = Scheme(
    "SPINEPS seg-spine", {"S1": 26}, canal=(61, 60), sides=((43, 44), (45, 46), (47, 48))
)

#: Masks of the SPIDER data, numbered from the lowest vertebra and disc up; vertebrae that are seen in part, 101 to 125, are
#: not named.
SPIDER = Scheme(
    "SPIDER",
    {name: 1 + n for n, name in enumerate(reversed(_USUAL[:-1]))},
    {f"{a}/{b}": 201 + n for n, (a, b) in enumerate(zip(_USUAL[-2::-1], _USUAL[:0:-1], strict=True))},
    (100,),
)

_VERTEBRA_NAME = re.compile(r"(?:vertebrae?[ _-])?([CTL]\d{1,2}|S1?|sacrum)", re.IGNORECASE)
_DISC_NAME = re.compile(
    r"(?:disc[ _-])?([CTL]\d{1,2})[ _/-]*([CTL]\d{1,2}|S1?)(?:[ _-](?:disc|ivd))?|([CTL]\d{1,2})[ _-]ivd", re.IGNORECASE
)
_CANAL_NAME = re.compile(r"(spinal[ _-])?(canal|cord)|csf|sc|(dural|thecal)[ _-]sac", re.IGNORECASE)


def disc_of_name(name: str) -> str:
    """The level that a segment's name says ("disc_L5_S", "L4-L5 disc", "L4_ivd"), as "L5/S1"; "" where it says none."""
    found = _DISC_NAME.fullmatch(name.strip())
    if found is None:
        return ""
    if found[3]:
        return next((pair for pair in _below(_TPT, _USUAL) if pair.startswith(f"{found[3].upper()}/")), "")
    lower = found[2].upper()
    return f"{found[1].upper()}/{'S1' if lower == 'S' else lower}"


def _by_names(labels: LabelFile) -> Scheme | None:
    """The scheme that the names of segments say, None where they say nothing."""
    vertebrae, discs, canal = {}, {}, []
    for value, entry in labels.segments.items():
        name = entry.get("Name", "").strip()
        if disc := disc_of_name(name):
            discs[disc] = value
        elif found := _VERTEBRA_NAME.fullmatch(name):
            vertebrae["S1" if found[1].upper() in ("S", "SACRUM") else found[1].upper()] = value
        elif _CANAL_NAME.fullmatch(name):
            canal.append(value)
    return Scheme("names of segments", vertebrae, discs, tuple(canal)) if discs or vertebrae or canal else None


def spineps_discs(values: set[int]) -> dict[str, int]:
    """SPINEPS gives a disc 100 and the number of the vertebra above it; below which one it lies, the others say."""
    spine = [name for name in SPINE if name not in EXTRA or _TPT.get(name, -1) in values]
    return {pair: 100 + value for pair, value in _below(_TPT, spine).items()}


def scheme_of(labels: LabelFile) -> Scheme | None:
    """What the values of a label map mean: by the names of its segments, else by which values there are.

    None where neither says so, as of a mask of one structure.
    """
    if (named := _by_names(labels)) is not None:
        return named
    values = {int(value) for value in np.unique(labels.voxels) if value}
    if values & {48, 49, 60, 61, 62}:
        return SPINEPS_REGIONS
    # Vertebrae that SPIDER's images show in part have the values of SPINEPS's discs, and its discs those of end plates.
    if 100 in values and values & set(range(201, 226)) and values & set(range(1, 26)):
        return SPIDER
    if values & set(range(101, 129)):
        return replace(SPINEPS_VERTEBRAE, discs=spineps_discs(values))
    if values & set(range(201, 225)):  # both have such discs, of other levels
        return SPIDER if values & set(range(1, 18)) and 200 not in values else TOTALSPINESEG_2024
    if values & (set(_TSS_DISCS.values()) | {50}):
        return TOTALSPINESEG
    return None
