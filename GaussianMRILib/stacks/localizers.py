"""Localisers whose Image Type does not say so: a slice or some in each of two or three crossing planes, in one series."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .dicom_frames import Frame
from .dicom_repeats import SAME_POSITION_MM

#: Planes of a localiser cross at more than this; those that turn about an axis, as bile ducts are scanned, have neighbours.
_CROSSING_DEGREES = 45.0
#: How localisers are named. A series of one plane is none, whatever its name.
_NAMES = re.compile(r"locali[sz]er|lokali[sz]er|scout|survey|pilot|\bloc\b|\b3[- ]?(?:pl|plane)\b", re.IGNORECASE)


def unnamed_localizers(images: Sequence[Frame]) -> list[Frame]:
    """The images of series that must be localisers, of images that do not say it; none where no stack is left beside.

    One image in each of two or three crossing planes, or crossing planes in a series that is called a localiser.
    """
    series: dict[str, list[Frame]] = {}
    for f in images:
        series.setdefault(f.series_uid, []).append(f)
    found: list[Frame] = []
    a_stack = False
    for uid, members in series.items():
        if uid and _is_localizer(members):
            found += members
        else:
            a_stack = a_stack or _has_a_stack(members)
    return found if a_stack else []


def _is_localizer(members: list[Frame]) -> bool:
    if len(members) < 2:
        return False
    normals = np.stack([f.ijk_to_ras[:3, 2] for f in members])
    cosines = np.abs(normals @ normals[0]) if len(members) > 3 else np.abs(normals @ normals.T)
    crossing = cosines < np.cos(np.radians(_CROSSING_DEGREES))
    if len(members) <= 3 and crossing.sum() == len(members) * (len(members) - 1):
        return True
    return bool(crossing.any()) and _NAMES.search(members[0].description) is not None


def _has_a_stack(members: list[Frame]) -> bool:
    """Whether two images lie behind each other."""
    first = members[0]
    normal = first.ijk_to_ras[:3, 2]
    return any(
        abs(float((f.position - first.position) @ normal)) > SAME_POSITION_MM
        and abs(float(f.ijk_to_ras[:3, 2] @ normal)) > np.cos(np.radians(_CROSSING_DEGREES))
        for f in members[1:]
    )


__all__ = ["unnamed_localizers"]
