"""Volumes whose voxels lie in several files: every voxel and place as in one file, and what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import GaussianMRILib as gm
from GaussianMRILib.geometry import transform_points

VOXELS = np.random.default_rng(5).integers(-3000, 3000, (4, 5, 6)).astype("<i2")
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nOffset = 3 -4 10\n"
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementSpacing = .5 .75 4\nDimSize = 6 5 4\nElementType = MET_SHORT\n"
)
NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\nspace: left-anterior-superior\nendian: little\n"
    "space directions: (.5,0,0) (0,.75,0) (0,0,4)\nspace origin: (3,-4,10)\n"
)


def slices(folder: Path, name: str = "s{}.raw", before: bytes = b"", pack: Callable[[bytes], bytes] = bytes) -> list[str]:
    """A file for each slice, counted from 1; their names."""
    names = [name.format(k + 1) for k in range(len(VOXELS))]
    for voxels, to in zip(VOXELS, names, strict=True):
        (folder / to).parent.mkdir(exist_ok=True)
        (folder / to).write_bytes(before + pack(voxels.tobytes()))
    return names


def check(path: Path, origin: tuple[float, float, float]) -> None:
    (stack,) = gm.read_stacks(path)
    np.testing.assert_array_equal(stack.pixels, VOXELS)
    np.testing.assert_allclose(transform_points(stack.ijk_to_ras[0], [0, 0, 0]), origin, atol=1e-9)
    assert stack.spacing == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("line", "names", "before", "more"),
    [
        ("LIST\n{}", "s{}.raw", b"", ""),
        ("LIST 2D\n{}\n\n", "s{}.raw", b"header", "HeaderSize = 6\n"),
        ("LIST 2\n{}", "sub/one {}.bin", b"anything", "HeaderSize = -1\n"),
        ("s%02d.raw 1 4 1", "s0{}.raw", b"", ""),
        ("s%d.raw 4 1 -1", "s{}.raw", b"", ""),
        ("s%d.raw", "s{}.raw", b"", ""),
    ],
)
def test_metaimage(tmp_path: Path, line: str, names: str, before: bytes, more: str) -> None:
    found = slices(tmp_path, names, before)
    if "-1" in line:
        for one, other in ((0, 3), (1, 2)):
            swapped = [(tmp_path / found[n]).read_bytes() for n in (other, one)]
            for n, content in zip((one, other), swapped, strict=True):
                (tmp_path / found[n]).write_bytes(content)
    (tmp_path / "v.mhd").write_text(f"{META}{more}ElementDataFile = {line.format(chr(10).join(found))}")
    check(tmp_path / "v.mhd", (-3, 4, 10))


@pytest.mark.parametrize(
    ("line", "encoding", "before", "more"),
    [
        ("LIST\n{}\n", "raw", b"", ""),
        ("LIST 2\n{}", "gzip", b"", ""),
        ("LIST\n{}", "raw", b"header", "byte skip: 6\n"),
        ("LIST\n{}", "raw", b"header", "byte skip: -1\n"),
        ("s%d.raw 1 4 1\n\n", "gz", b"", ""),
        ("./s%1d.raw 1 4 1 2\n", "raw", b"", ""),
    ],
)
def test_nrrd(tmp_path: Path, line: str, encoding: str, before: bytes, more: str) -> None:
    found = slices(tmp_path, before=before, pack=gzip.compress if encoding.startswith("g") else bytes)
    header = f"{NRRD}encoding: {encoding}\n{more}data file: {line.format(chr(10).join(found))}"
    (tmp_path / "v.nhdr").write_text(header)
    check(tmp_path / "v.nhdr", (-3, -4, 10))


def test_slabs_and_other_fields_after_a_pattern(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"slab{k:03d}").write_bytes(VOXELS[2 * k : 2 * k + 2].tobytes())
    (tmp_path / "v.nhdr").write_text(f"NRRD0004\ndata file: slab%03d 0 1 1 3\nencoding: raw\n{NRRD[9:]}\n")
    check(tmp_path / "v.nhdr", (-3, -4, 10))


def test_what_several_files_cannot_be(tmp_path: Path) -> None:
    names = slices(tmp_path)
    (tmp_path.parent / "outside.raw").write_bytes(VOXELS[0].tobytes())
    first, short = "\n".join(names[:3]), tmp_path / "short.raw"
    short.write_bytes(VOXELS[0].tobytes()[:-1])
    for line, message in (
        (f"LIST\n{first}", "names 3 files of voxels for a volume of 6 x 5 x 4"),
        (f"LIST\n{first}\ns9.raw", r"needs s9\.raw beside it"),
        (f"LIST\n{first}\nshort.raw", r"short\.raw is truncated: its voxels have 59 of 60 bytes"),
        (f"LIST\n{first}\n../outside.raw", "outside its folder"),
        (f"LIST\n{first}\n{tmp_path.parent / 'outside.raw'}", "outside its folder"),
        (f"LIST 3D\n{first}", "names 3 files"),
        (f"LIST 9\n{first}", "9 dimensions"),
        ("s%d.raw 1 3 1", "names 3 files"),
        ("s%n.raw 1 4 1", "no pattern"),
        ("s%d%s.raw 1 4 1", "no pattern"),
        ("s%d.raw 1 4 0", "arg 3 must not be zero"),
        ("s%d.raw 1 999999999 1", "in 999999999 files"),
        ("../s%d.raw 1 4 1", "outside its folder"),
    ):
        for name, text in (
            ("v.mhd", f"{META}ElementDataFile = {line}"), ("v.nhdr", f"{NRRD}encoding: raw\ndata file: {line}\n"),
        ):  # fmt: skip
            (tmp_path / name).write_text(text)
            with pytest.raises(gm.GaussianMRIError, match=message) as caught:
                gm.read_stacks(tmp_path / name)
            assert name in str(caught.value) or "short.raw" in str(caught.value)
    (tmp_path / "v.mhd").write_text(f"{META}CompressedData = True\nElementDataFile = s%d.raw 1 4 1")
    with pytest.raises(gm.GaussianMRIError, match="packed or text"):
        gm.read_stacks(tmp_path / "v.mhd")
    (tmp_path / "v.nhdr").write_text(f"{NRRD}encoding: ascii\ndata file: s%d.raw 1 4 1\n")
    with pytest.raises(gm.GaussianMRIError, match="files of text"):
        gm.read_stacks(tmp_path / "v.nhdr")


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    names = slices(tmp_path)
    (tmp_path / "v.mhd").write_text(f"{META}ElementDataFile = LIST\n" + "\n".join(names))
    check(tmp_path / "v.mhd", (-3, 4, 10))
    assert list(scratch.iterdir()) == [] and sorted(p.name for p in tmp_path.glob("*.raw")) == names
