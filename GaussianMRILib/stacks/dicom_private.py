"""What vendors say of an image in private elements of its header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

#: Where vendors put the b-value before the standard had a place for it: (group, private creator, element).
_B_VALUES = (
    (0x0019, "SIEMENS MR HEADER", 0x0C),
    (0x0043, "GEMS_PARM_01", 0x39),  # the first of four numbers; GE adds a billion
    (0x2001, "Philips Imaging DD 001", 0x03),
)
#: The same of the direction of the diffusion gradient: one element of three numbers, or three.
_DIRECTIONS = (
    (0x0019, "SIEMENS MR HEADER", (0x0E,)),
    (0x0019, "GEMS_ACQU_01", (0xBB, 0xBC, 0xBD)),
    (0x2005, "Philips MR Imaging DD 001", (0xB0, 0xB1, 0xB2)),
)
#: What GE's 0, 1, 2 and 3 stand for.
_GE_COMPONENTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")


def private_b_value(header: Dataset) -> float | None:
    """The b-value, s/mm^2."""
    for group, creator, element in _B_VALUES:
        value = _private(header, group, creator, element)
        if value is None:
            continue
        if isinstance(value, bytes):
            if len(value) == 4 and creator.startswith("Philips"):  # a float whose VR got lost
                return if_number(np.frombuffer(value, "<f4")[0])
            value = value.decode("latin-1").split("\\")
        first = (
            value[0] if hasattr(value, "__iter__") and not isinstance(value, str) and len(value) else value
        )
        number = if_number(first)
        if number is not None and number >= 0:
            return number % 1e9
    return None


def private_direction(header: Dataset) -> tuple[float, ...] | None:
    """The direction of the diffusion gradient; its length tells nothing."""
    for group, creator, elements in _DIRECTIONS:
        numbers: list[float | None] = []
        for element in elements:
            value = _private(header, group, creator, element)
            if isinstance(value, bytes):
                value = _unpacked(value, creator, 3 // len(elements))
            several = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
            numbers += [if_number(v) for v in several]
        known = tuple(n for n in numbers if n is not None)
        if len(known) == len(numbers) == 3:
            return known
    return None


def _unpacked(value: bytes, creator: str, count: int) -> list[Any]:
    """Numbers of an element whose VR got lost: text, or floats as each vendor has them."""
    kind = "<f4" if creator.startswith("Philips") else "<f8"
    if len(value) == count * np.dtype(kind).itemsize and not creator.startswith("GEMS"):
        return np.frombuffer(value, kind).tolist()
    return value.decode("latin-1").split("\\")


def private_component(header: Dataset) -> str | None:
    """The complex component of GE's images, whose Image Type is ORIGINAL\\PRIMARY\\OTHER for all of them."""
    value = _private(header, 0x0043, "GEMS_PARM_01", 0x2F)
    number = int.from_bytes(value[:2], "little") if isinstance(value, bytes) else if_number(value)
    return _GE_COMPONENTS[int(number)] if number in (0, 1, 2, 3) else None


def _private(header: Dataset, group: int, creator: str, element: int) -> Any:
    """The value of a private element, None where it is not there."""
    try:
        return header.private_block(group, creator)[element].value
    except (KeyError, ValueError):
        return None


def if_number(value: Any) -> float | None:
    """A finite number; None where there is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


__all__ = ["if_number", "private_b_value", "private_component", "private_direction"]
