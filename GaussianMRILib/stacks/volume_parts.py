"""Volumes whose voxels lie in several files beside their header (MetaImage and NRRD with a list or a pattern of names).

Sources: the descriptions of both formats, metaio's "ElementDataFile" and teem's "data file".
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import GaussianMRIError
from ..files import printable, unpacked

_MOST_FILES = 100_000


@dataclass(frozen=True)
class Parts:
    """Where the voxels of a volume are.

    Attributes:
        files: with as many bytes of voxels each, the fastest axes first.
        offset: bytes before the voxels of each file; -1: they are the last bytes of it.
        each: bytes of voxels in each file, unpacked.
        packing: "raw", "gzip", "zlib" or "bzip2".
        header: of a file whose voxels are in one file `name` of raw bytes, in place of these.
    """

    files: tuple[Path, ...]
    offset: int
    each: int
    packing: str
    header: bytes
    name: str = "voxels.raw"

    @contextlib.contextmanager
    def in_one_file(self, suffix: str) -> Iterator[Path]:
        """A temporary volume with a header of that suffix and all voxels in one file beside it."""
        with tempfile.TemporaryDirectory(prefix="gaussianmri-") as folder:
            header = Path(folder) / f"volume{suffix}"
            header.write_bytes(self.header)
            with open(header.with_name(self.name), "wb") as whole:
                for path in self.files:
                    left = self.each
                    for piece in unpacked(path, self._begin(path), self.packing):
                        left -= whole.write(piece[:left])
                        if not left:
                            break
            yield header

    def _begin(self, path: Path) -> int:
        return path.stat().st_size - self.each if self.offset < 0 else self.offset


def data_file(path: Path, name: str) -> Path:
    """The file that a header names, which lies beside it or in a folder there.

    Raises:
        ValueError, GaussianMRIError: it does not.
    """
    if not name or "\0" in name:
        raise ValueError("it names no file of voxels")
    data = path.parent / name
    # By its name: a link that lies beside the header may lead anywhere.
    if os.path.isabs(name) or Path(os.path.normpath(name)).parts[0] == os.pardir:
        raise GaussianMRIError(f"{path} has its voxels in {printable(name)}, outside its folder. Put both into one folder.")
    if not data.is_file():
        raise GaussianMRIError(f"{path} needs {printable(name)} beside it, which is not there. Copy both files.")
    return data


def listed(path: Path, words: Sequence[str], lines: str, sizes: Sequence[int]) -> tuple[Path, ...]:
    """The files of a list, one name on each line after `words`: LIST, and perhaps the dimension of each file."""
    names = [line.strip() for line in lines.splitlines()]
    while names and not names[-1]:
        names.pop()
    dimension = len(sizes) - 1 if len(words) < 2 else int(words[1].upper().removesuffix("D"))
    return _checked(path, names, sizes, dimension)


def numbered(path: Path, words: Sequence[str], sizes: Sequence[int], dimension: int | None = None) -> tuple[Path, ...]:
    """The files of a pattern: a name with one %d, such as %03d, then the first number, the last, and the step.

    Args:
        words: these four; what is missing is counted in steps of 1 from the first number, 1 by default.
        dimension: of each file; one less than the volume's by default.
    """
    found = re.fullmatch(r"([^%]*)%(0?)(\d?)d([^%]*)", words[0])
    if found is None:
        raise ValueError(f"the names of its files are {printable(words[0])[:60]!r}, which is no pattern with one %d")
    before, zero, width, after = found.groups()
    dimension = len(sizes) - 1 if dimension is None else dimension
    first = int(words[1]) if len(words) > 1 else 1
    last = int(words[2]) if len(words) > 2 else first + math.prod(sizes[dimension:]) - 1
    step = int(words[3]) if len(words) > 3 else 1
    count = len(range(first, last + (1 if step > 0 else -1), step))
    if not 0 < count <= _MOST_FILES:
        raise ValueError(f"its voxels are in {count} files")
    numbers = (first + k * step for k in range(count))
    return _checked(path, [f"{before}{n:{zero}{width}d}{after}" for n in numbers], sizes, dimension)


def _checked(path: Path, names: list[str], sizes: Sequence[int], dimension: int) -> tuple[Path, ...]:
    if not 1 <= dimension <= len(sizes):
        raise ValueError(f"each of its files has {dimension} dimensions, and the volume {len(sizes)}")
    # Files of as many dimensions as the volume are slabs of it, along its last axis.
    right = sizes[-1] % len(names) == 0 if dimension == len(sizes) and names else len(names) == math.prod(sizes[dimension:])
    if not right or len(names) > _MOST_FILES:
        raise GaussianMRIError(
            f"{path} names {len(names)} files of voxels for a volume of {' x '.join(map(str, sizes))}. Copy all of it again."
        )
    return tuple(data_file(path, name) for name in names)
