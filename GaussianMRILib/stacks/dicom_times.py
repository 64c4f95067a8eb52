"""When an image was acquired, by its header: which of two of one place came first."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any

#: Where a date with a time stands: (keyword, functional group), the best first.
_MOMENTS = (
    ("FrameAcquisitionDateTime", "FrameContentSequence"),
    ("FrameReferenceDateTime", "FrameContentSequence"),
    ("AcquisitionDateTime", ""),
)
#: The same in two attributes. Content Time is that of the image, which may be later.
_DAYS_AND_TIMES = (("AcquisitionDate", "AcquisitionTime"), ("ContentDate", "ContentTime"))

_NO_DAY = "00010101"  # all days without a date are the same


def times_of(find: Callable[..., Any]) -> tuple[str, ...]:
    """What each of several attributes says, in one order for all images, for `seconds`.

    Args:
        find: (keyword, functional group) to a value, or None.
    """
    moments = [str(find(keyword, group) or "") for keyword, group in _MOMENTS]
    return (*moments, *(f"{find(day) or _NO_DAY}{find(time) or ''}" for day, time in _DAYS_AND_TIMES))


def seconds(text: str) -> float | None:
    """Of YYYYMMDDHHMMSS.FFFFFF, with whatever signs between and a time zone behind; None where it is no time."""
    found = re.match(r"(\d{4})\D?(\d\d)\D?(\d\d)\D?(\d\d):?(\d\d):?(\d\d(?:\.\d*)?)?", text.strip())
    if found is None:
        return None
    year, month, day, hour, minute = (int(part) for part in found.groups()[:-1])
    try:
        days = date(year, month, day).toordinal()
    except ValueError:
        return None
    return 86400.0 * days + 3600.0 * hour + 60.0 * minute + float(found[6] or 0)


__all__ = ["seconds", "times_of"]
