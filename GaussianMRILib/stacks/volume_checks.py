"""Headers of volume files, checked before ITK sees them: it believes what they say, and ends the process over some.

A file has to be as long as its header says, unpacked as well, so that no voxel is what memory happened to hold.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
from dataclasses import replace
from pathlib import Path

from ..errors import GaussianMRIError
from ..files import CHUNK, LARGEST_INPUT, printable, reading, unpacked
from .volume_headers import LARGEST_HEADER, header_file, voxel_file
from .volume_parts import Parts, data_file, listed, numbered

#: Of a field of NRRD: ITK quotes what it cannot parse in its message, and ends the process where that is long.
_LONGEST_FIELD = 500
_LONG_FIELDS = ("content", "datafile")
#: Nothing that deflate packed becomes longer than this by a factor.
_LARGEST_RATIO = 1040
_META_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4, "LONG_LONG": 8,
    "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip
_NRRD_BYTES = {
    1: "signed char|int8|int8_t|uchar|unsigned char|uint8|uint8_t",
    2: "short|short int|signed short|signed short int|int16|int16_t|"
    "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    4: "int|signed int|int32|int32_t|uint|unsigned int|uint32|uint32_t|float",
    8: "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|ulonglong|unsigned long long|"
    "unsigned long long int|uint64|uint64_t|double",
}
_NIFTI_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 128: 24, 32: 64, 1792: 128}


def check_volume_header(path: Path) -> Parts | None:
    """Refuse a volume file whose header cannot be, or that is shorter than its header says.

    Returns:
        where the voxels are, if that is in several files; else None.

    Raises:
        GaussianMRIError: see above.
    """
    name = path.name.lower()
    parts = None
    with reading(path, "a readable volume", "Copy it again, or convert it anew."):
        if name.endswith((".mha", ".mhd")):
            parts = _check_meta(path)
        elif name.endswith((".nrrd", ".nhdr")):
            parts = _check_nrrd(path)
        else:
            _check_nifti(path)
    return parts


# ---- what all have in common -------------------------------------------------------------------------------


def _sizes(values: list[str], what: str) -> list[int]:
    sizes = [int(value) for value in values]
    if not 1 <= len(sizes) <= 7 or min(sizes) < 1 or max(sizes) > 1 << 31:
        raise ValueError(f"its {what} is {printable(' '.join(values))[:80] or 'empty'}")
    return sizes


def _numbers(text: str, count: int, what: str) -> None:
    values = [float(word) for word in text.replace(",", " ").replace("(", " ").replace(")", " ").split()]
    if len(values) != count or not all(math.isfinite(v) and abs(v) < 1e30 for v in values):
        raise ValueError(f"its {what} is not {count} finite numbers")


def _check_length(path: Path, offset: int, needed: int, packing: str) -> None:
    """Refuse a file that has fewer bytes than `needed` after `offset`; `packing` is "raw", "gzip", "zlib" or "bzip2"."""
    if needed > LARGEST_INPUT:
        raise ValueError(f"it would have {needed / 2**30:.0f} GB of voxels, and {LARGEST_INPUT >> 30} GB is the limit")
    there = os.stat(path).st_size - offset
    if packing == "raw":
        found = there
    elif packing != "bzip2" and there * _LARGEST_RATIO + 100 < needed:
        found = there * _LARGEST_RATIO  # it cannot be
    else:
        found = 0
        for piece in unpacked(path, offset, packing):
            found += len(piece)
            if found >= needed + CHUNK:  # more than it says; what is too long is not too short
                break
    if found < needed:
        whose = "" if packing == "raw" else "at most " if found == there * _LARGEST_RATIO else "unpacked "
        raise GaussianMRIError(
            f"{path} is truncated: its voxels have {whose}{found} of {needed} bytes. Copy it again."
        )


def _text(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(LARGEST_HEADER)


def _decoded(raw: bytes) -> str:
    """Text of a header. The names of files in it stay the bytes that ITK opens, whatever the encoding."""
    return raw.decode("utf-8", "surrogateescape")


# ---- MetaImage ---------------------------------------------------------------------------------------------


def _check_meta(path: Path) -> Parts | None:
    head = _text(path)
    fields: dict[str, str] = {}
    at = 0
    while "ElementDataFile" not in fields:
        end = head.find(b"\n", at)
        line = _decoded(head[at : end if end >= 0 else len(head)])
        at = end + 1
        if "=" not in line:
            raise ValueError("its header has no ElementDataFile")
        key, value = line.split("=", 1)
        if key.strip() in fields:
            raise ValueError(f"its header has {printable(key.strip())} twice")
        fields[key.strip()] = value.strip()
        if end < 0:
            break
    if fields.get("ObjectType", "Image") != "Image":
        raise ValueError("it is no image")
    count = int(fields["NDims"])
    sizes = _sizes(fields["DimSize"].split(), "DimSize")
    if not 2 <= count <= 7 or len(sizes) != count:
        raise ValueError(f"it has {len(sizes)} sizes for {str(count)[:20]} dimensions")
    for names, numbers in (
        (("TransformMatrix", "Orientation", "Rotation"), count * count),
        (("Offset", "Origin", "Position", "CenterOfRotation", "ElementSpacing", "ElementSize"), count),
    ):
        for name in names:
            if name in fields:
                _numbers(fields[name], numbers, name)
    channels = int(fields.get("ElementNumberOfChannels", 1))
    kind = fields["ElementType"].removeprefix("MET_")
    kind = kind.removesuffix("_ARRAY")
    if kind not in _META_BYTES or not 1 <= channels <= 1024:
        raise ValueError(f"its voxels are {channels} x {printable(fields['ElementType'])[:40]}")
    for name in ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData"):
        if fields.get(name, "False").lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"its {name} is {printable(fields[name])[:40]}")
    packed = fields.get("CompressedData", "False").lower() in ("true", "1")
    skipped = int(fields.get("HeaderSize", 0))
    size = int(fields.get("CompressedDataSize", 0))
    words = fields["ElementDataFile"].split()
    files: tuple[Path, ...] = ()
    offset = 0
    if words[:1] == ["LIST"]:
        files = listed(path, words, _decoded(head[at:]) if at else "", sizes)
    elif "%" in fields["ElementDataFile"]:
        files = numbered(path, words, sizes)
    elif words in (["LOCAL"], ["Local"], ["local"]):
        data, offset = path, at
    else:
        data = data_file(path, fields["ElementDataFile"])
    needed = math.prod(sizes) * channels * _META_BYTES[kind]
    if skipped < -1 or (skipped == -1 and packed):
        raise ValueError(f"its HeaderSize is {skipped}")
    text = fields.get("BinaryData", "True").lower() in ("false", "0")
    if files:
        if packed or text:
            raise ValueError("its voxels are in several files, which are packed or text; save them in one")
        header = re.sub(rb"(?m)^\s*(HeaderSize|ElementDataFile)\s*=.*\n?", b"", head[:at] if at else head)
        parts = Parts(files, skipped, needed // len(files), "raw", header)
        return _checked_parts(parts, b"ElementDataFile = %s\n")
    if text:
        _check_words(data, offset, math.prod(sizes) * channels)
        return None
    if packed and not 0 <= size <= os.stat(data).st_size - offset:
        raise ValueError(f"its CompressedDataSize is {str(size)[:20]}, more than it has")
    if skipped > 0:
        offset += skipped
    _check_length(data, offset, needed, "zlib" if packed else "raw")
    return None


def _checked_parts(parts: Parts, line: bytes) -> Parts:
    """Parts whose files are as long as they have to be, and whose header has the line that names the whole."""
    if parts.each * len(parts.files) > LARGEST_INPUT:
        raise ValueError(f"it would have {parts.each * len(parts.files) / 2**30:.0f} GB of voxels")
    for path in parts.files:
        _check_length(path, max(parts.offset, 0), parts.each, parts.packing)
    return replace(parts, header=parts.header + line % parts.name.encode())


def _check_words(path: Path, offset: int, needed: int) -> None:
    """The same of voxels that are written as text."""
    with open(path, "rb") as file:
        file.seek(offset)
        found = 0
        inside = False
        while (chunk := file.read(CHUNK)) and found < needed:
            words = chunk.split()
            found += len(words) - (inside and bool(words) and not chunk[:1].isspace())
            inside = not chunk[-1:].isspace()
    if found < needed:
        raise GaussianMRIError(f"{path} is truncated: it has {found} of {needed} voxels. Copy it again.")


# ---- NRRD --------------------------------------------------------------------------------------------------


def _check_nrrd(path: Path) -> Parts | None:
    head = _text(path)
    if not head.startswith(b"NRRD000"):
        raise ValueError("it does not begin with NRRD000")
    fields: dict[str, str] = {}
    at = head.find(b"\n") + 1
    while True:
        end = head.find(b"\n", at)
        raw = head[at : end if end >= 0 else len(head)]
        line = _decoded(raw).rstrip("\r")
        at = end + 1
        if end < 0 or not line:
            break
        if line.startswith("#") or ":=" in line:
            continue
        key, separator, value = line.partition(":")
        key = key.strip().lower().replace(" ", "")
        if not separator or key in fields or (len(raw) > _LONGEST_FIELD and key not in _LONG_FIELDS):
            raise ValueError(f"its header has the line {printable(line)[:60]!r}")
        fields[key] = value.strip()
        if key == "datafile" and value.strip().upper().startswith("LIST"):
            break
    if end < 0 and "datafile" not in fields:
        raise ValueError("its header has no end")
    count = int(fields["dimension"])
    sizes = _sizes(fields["sizes"].split(), "sizes")
    if not 2 <= count <= 7 or len(sizes) != count:
        raise ValueError(f"it has {len(sizes)} sizes for {str(count)[:20]} dimensions")
    kind = " ".join(fields["type"].lower().split())
    each = next((n for n, names in _NRRD_BYTES.items() if kind in names.split("|")), None)
    if each is None:
        raise ValueError(f"its voxels are {printable(kind)[:40]}")
    _check_nrrd_space(fields, count)
    encoding = fields["encoding"].lower()
    offset = 0 if "datafile" in fields else at
    words = fields.get("datafile", "").split()
    files: tuple[Path, ...] = ()
    if words[:1] == ["LIST"]:
        files = listed(path, words, _decoded(head[at:]), sizes)
    elif "%" in fields.get("datafile", ""):
        files = numbered(path, words, sizes, int(words[4]) if len(words) > 4 else None)
    data = files[0] if files else data_file(path, fields["datafile"]) if "datafile" in fields else path
    lines, skipped = (int(fields.get(name, 0)) for name in ("lineskip", "byteskip"))
    if not 0 <= lines <= 1_000_000 or not -1 <= skipped <= os.stat(data).st_size:
        raise ValueError(f"it leaves out {lines} lines and {skipped} bytes")
    needed = math.prod(sizes) * each
    packing = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}.get(encoding)
    if lines or (skipped > 0 and packing != "raw"):
        raise ValueError("it leaves out lines before its voxels; save it without")
    if files:
        if packing is None:
            raise ValueError("its voxels are in several files of text; save them in one")
        end = at if words[0] == "LIST" else len(head) if end < 0 else end
        header = re.sub(rb"(?mi)^(data ?file|encoding|byte ?skip|line ?skip):.*\n?", b"", head[:end])
        parts = Parts(files, skipped, needed // len(files), packing, header.rstrip() + b"\n")
        return _checked_parts(parts, b"encoding: raw\ndata file: %s\n\n")
    if packing is not None:
        _check_length(data, offset + max(skipped, 0), needed, packing)
    elif encoding in ("ascii", "text", "txt"):
        _check_words(data, offset, math.prod(sizes))
    elif encoding == "hex":
        _check_length(data, offset, 2 * needed, "raw")
    else:
        raise ValueError(f"its encoding is {printable(encoding)[:40]}")
    return None


def _check_nrrd_space(fields: dict[str, str], count: int) -> None:
    """Vectors of the geometry have as many numbers as they need."""
    for name in ("spacings", "thicknesses", "axismins", "axismaxs"):
        values = fields[name].split() if name in fields else []
        if values and (len(values) != count or not all(abs(float(v)) < 1e30 or v.lower() == "nan" for v in values)):
            raise ValueError(f"its {name} are not {count} numbers")
    directions = fields.get("spacedirections", "").replace("none", "(none)")
    vectors = [part.split(")")[0] for part in directions.split("(")[1:]]
    if vectors:
        if len(vectors) != count:
            raise ValueError(f"it has {len(vectors)} space directions for {count} dimensions")
        for vector in vectors:
            if vector != "none":
                _numbers(vector, 3, "space direction")
    if "spaceorigin" in fields:
        _numbers(fields["spaceorigin"], 3, "space origin")


# ---- NIfTI and Analyze -------------------------------------------------------------------------------------


def _check_nifti(path: Path) -> None:
    name = path.name
    pair = name.lower().endswith((".hdr", ".img"))
    header = header_file(path)
    packing = "gzip" if name.lower().endswith(".gz") else "raw"
    with (gzip.open if packing == "gzip" else open)(header, "rb") as file:
        start = file.read(352)
    if len(start) < 348:
        raise GaussianMRIError(f"{header} is truncated: its header has {len(start)} of 348 bytes. Copy it again.")
    if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):
        raise GaussianMRIError(f"{path} is a NIfTI-2 file. Save it as NIfTI-1, NRRD or MHA.")
    order = next((o for o in "<>" if struct.unpack(o + "i", start[:4])[0] == 348), None)
    if order is None:
        raise ValueError("it has no header of NIfTI-1")
    single = start[344:347] == b"n+1"
    count, *rest = struct.unpack_from(order + "8h", start, 40)
    if not 1 <= count <= 7:
        raise ValueError(f"it has {count} dimensions")
    sizes = _sizes([str(n) for n in rest[:count]], "size")
    kind, bits = struct.unpack_from(order + "2h", start, 70)
    if _NIFTI_BITS.get(kind) != bits:
        raise ValueError(f"its voxels are of the type {kind} with {bits} bits")
    offset = struct.unpack_from(order + "f", start, 108)[0]
    if not (math.isfinite(offset) and 0 <= offset < 1 << 31):
        raise ValueError(f"its voxels begin at {offset:g}")
    slope, intercept = struct.unpack_from(order + "2f", start, 112)
    if start[344:346] in (b"n+", b"ni") and slope and math.isfinite(slope) and not math.isfinite(intercept):
        raise ValueError("its intercept is not finite")
    needed = math.prod(sizes) * bits // 8
    if not pair:
        if not single:
            raise ValueError("it is one file of a pair")
        # Of a packed file the voxels begin in the unpacked stream.
        _check_length(path, 0, int(offset) + needed, packing)
        return
    image = voxel_file(path)
    if image is None:
        raise GaussianMRIError(f"{path} needs {path.with_suffix('.img').name} beside it, which is not there.")
    _check_length(image, 0, int(offset) + needed, "gzip" if image.suffix == ".gz" else "raw")
