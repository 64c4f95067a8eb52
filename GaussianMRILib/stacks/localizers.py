"""Localisers whose Image Type does not say so: slices in two or three planes at right angles, in one series."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .dicom_frames import Frame
from .dicom_repeats import SAME_POSITION_MM

#: Planes of a localiser are nearly parallel or nearly at right angles, by so many degrees. Planes that turn about an axis,
#: as bile ducts or a heart are scanned, are neither.
_NEAR_DEGREES = 20.0
#: Images at a larger angle are not of one stack, also not of one of several blocks.
_ONE_STACK_DEGREES = 45.0
#: How localisers are named. `3 plane` alone, or with `loc`: a reformat or a scan may have three planes as well.
_NAMES = re.compile(
    r"locali[sz]er|lokali[sz]er|scout|survey|pilot|(?<![a-z0-9])loc(?![a-z0-9])|(?<![a-z0-9])3[-_ ]?pl(?![a-z0-9])"
    r"|(?<![a-z0-9])3[-_ ]?plane[-_ ]?loc|^[-_ ]*3[-_ ]?plane[-_ ]*$",
    re.IGNORECASE,
)


def unnamed_localizers(images: Sequence[Frame]) -> list[Frame]:
    """The images of series that must be localisers, of images that do not say it; none where no stack is left beside.

    Three images at right angles to each other, or two or three such planes in a series that is called a localiser. Images
    that were computed from others (DERIVED) and planes at other angles are none, whatever their name.
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
    if any(str(f.contrast.get("image type", "")).upper().startswith("DERIVED") for f in members):
        return False
    if _NAMES.search(members[0].description):
        return _planes_at_right_angles(members) >= 2
    return len(members) == 3 and _planes_at_right_angles(members) == 3


def _planes_at_right_angles(members: list[Frame]) -> int:
    """How many planes the images lie in; 0 where two of the planes are not nearly at right angles."""
    parallel, across = np.cos(np.radians([_NEAR_DEGREES, 90.0 - _NEAR_DEGREES]))
    planes = members[0].ijk_to_ras[None, :3, 2]
    for f in members[1:]:
        cosines = np.abs(planes @ f.ijk_to_ras[:3, 2])
        if (cosines < across).all():
            planes = np.vstack([planes, f.ijk_to_ras[:3, 2]])
        elif cosines.max() < parallel:
            return 0
    return len(planes)


def _has_a_stack(members: list[Frame]) -> bool:
    """Whether two images lie behind each other."""
    first = members[0]
    normal = first.ijk_to_ras[:3, 2]
    return any(
        abs(float((f.position - first.position) @ normal)) > SAME_POSITION_MM
        and abs(float(f.ijk_to_ras[:3, 2] @ normal)) > np.cos(np.radians(_ONE_STACK_DEGREES))
        for f in members[1:]
    )


__all__ = ["unnamed_localizers"]
