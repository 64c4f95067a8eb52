"""From stored values of a DICOM image to values in its units: rescale, Modality LUT, inversion, padding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True, eq=False)
class ModalityLut:
    """A table from stored values to values (DICOM PS3.3 C.11.1); beyond its ends the first and last entry hold."""

    first: int
    table: NDArray[np.float64]

    def __call__(self, stored: NDArray[Any], *, inverted: bool = False) -> NDArray[np.float64]:
        """Values of an image of stored ones; `inverted`: from the table's largest value down, for MONOCHROME1."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.table) - 1)
        values: NDArray[np.float64] = self.table[index]
        return self.table.min() + self.table.max() - values if inverted else values


def modality_lut(header: Dataset, signed: bool, path: Path) -> ModalityLut | None:
    """The Modality LUT of an image, None where it has none.

    Raises:
        GaussianMRIError: it has one that cannot be applied.
    """
    items = header.get("ModalityLUTSequence")
    if not items:
        return None
    try:
        count, first, bits = (int(v) for v in items[0].LUTDescriptor)
        data = items[0].LUTData
    except (AttributeError, TypeError, ValueError) as error:
        raise GaussianMRIError(f"{path} has a Modality LUT that is not complete. Correct the header.") from error
    count = count or 65536  # 0 stands for it
    if signed and first > 32767:
        first -= 65536
    elif not signed and first < 0:
        first += 65536
    if isinstance(data, (bytes, bytearray)):
        little = getattr(items[0], "is_little_endian", True) is not False
        # A table of 8 bits lies in words of 16 or in bytes.
        kind = "u1" if bits <= 8 and len(data) < 2 * count else ("<u2" if little else ">u2")
        table = np.frombuffer(bytes(data), kind)
    else:
        table = np.atleast_1d(np.asarray(data)).astype(np.int64) & 0xFFFF
    if len(table) < count:
        raise GaussianMRIError(
            f"{path} has a Modality LUT of {len(table)} values where it announces {count}. Correct the header."
        )
    return ModalityLut(first, table[:count].astype(np.float64))


@dataclass(frozen=True)
class Padding:
    """Stored values that stand for "no pixel here", from `low` to `high` (DICOM PS3.3 C.7.5.1.1.2)."""

    low: int
    high: int

    def __call__(self, *stored: NDArray[Any]) -> NDArray[np.bool_]:
        """Where one of the arrays, of one shape, has padding. Writers give the value signed or not, as it comes."""
        found = np.zeros(stored[0].shape, bool)
        for values in stored:
            if values.dtype.kind not in "iu":
                continue
            size = 1 << (8 * values.dtype.itemsize)
            least = int(np.iinfo(values.dtype).min)
            low, high = sorted((v - least) % size + least for v in (self.low, self.high))
            found |= (values >= low) & (values <= high)
        return found


def padding(header: Dataset) -> Padding | None:
    """The padding of an image, None where the header names none (or nothing that can be compared)."""
    try:
        low = int(header["PixelPaddingValue"].value)
        limit = header.get("PixelPaddingRangeLimit")
        return Padding(low, low if limit is None else int(limit))
    except (KeyError, TypeError, ValueError):
        return None


def fill_padding(pixels: NDArray[np.float32], padded: NDArray[np.bool_]) -> str:
    """Give padded pixels, in place, the lowest value of all others; a sentence on it, "" where nothing changed.

    Padding lies far below or above what was measured, and a fit or a window would have to show it. Zeros below
    measured values stay: in MR they are the black around a picture.
    """
    if not padded.any():
        return ""
    lowest = float(pixels[~padded].min()) if not padded.all() else 0.0
    changed = padded & ~((pixels == 0) & (lowest >= 0))
    if not changed.any():
        return ""
    pixels[changed] = lowest
    return f"{100 * float(padded.mean()):.1f} % of the pixels are padding and were given the lowest value, {lowest:g}"


__all__ = ["ModalityLut", "Padding", "fill_padding", "modality_lut", "padding"]
