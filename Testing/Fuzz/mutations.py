"""Seeded damage: to bytes, headers in text, JSON, NumPy archives, tensor files, tables and DICOM attributes."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Numbers and words that parsers and arithmetic trip over.
NUMBERS = (
    0, -1, 1, 2, 255, 65535, 4294967296, 99999999999, 99999999999999999999, 1e-30, 1e-320, 1e9, 1e30, 1e300, 1e400,
    float("nan"), float("inf"), float("-inf"), 0.5, -0.0,
)  # fmt: skip
WORDS = ("", "x", "nan", "inf", "-inf", "1e400", "1e-320", "\x00", "01", "-1", "4294967296", "double", "1\\2\\3", "é" * 40)
VALUES = (
    None, True, False, [], {}, [1, 2], list(range(17)), {"a": 1}, [[[]]], [None], [float("nan")] * 3, *NUMBERS, *WORDS,
)  # fmt: skip


def mutate(path: Path, rng: random.Random) -> str:
    """Damage a file in place; what was done, in words."""
    suffix = path.suffix.lower()
    kinds: list[Callable[[Path, random.Random], str]] = [_bytes]
    own = _BY_SUFFIX.get(suffix)
    if own is not None:
        kinds += [own] * 4
    if suffix in _HEADERS:
        kinds += [_header] * 4
    return rng.choice(kinds)(path, rng)


# ---- any file ----------------------------------------------------------------------------------------------


def _bytes(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    kind = rng.choice(["flip", "flip", "several", "cut", "empty", "zeros", "double", "insert", "noise"])
    at = rng.randrange(len(data)) if data else 0
    if rng.random() < 0.5 and len(data) > 400:  # headers are where most can go wrong
        at = rng.randrange(400)
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "several":
        for _ in range(rng.randint(2, 40)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "empty":
        data.clear()
    elif kind == "zeros":
        data[at : at + rng.choice((4, 64, 1024))] = bytes(rng.choice((4, 64, 1024)))
    elif kind == "double":
        data = data * 2
    elif kind == "insert":
        data[at:at] = rng.randbytes(rng.randint(1, 9))
    else:
        data = bytearray(rng.randbytes(len(data)))
    path.write_bytes(bytes(data))
    return f"bytes: {kind} at {at}"


_HEADERS = {".mha", ".mhd", ".nrrd", ".nhdr", ".ply", ".vp"}


def _header(path: Path, rng: random.Random) -> str:
    """Change a word of a header in text."""
    data = path.read_bytes()
    ends = [m.end() for m in re.finditer(rb"\n\n|ElementDataFile = [^\n]*\n|end_header\n", data[:20_000])]
    end = ends[0] if ends else min(len(data), 2000)
    head = data[:end].decode("latin-1")
    words = list(re.finditer(r"[^\s=:(),]+", head))
    word = rng.choice(words)
    new = str(rng.choice([*NUMBERS, *WORDS, "", word[0] * 2]))
    if rng.random() < 0.15:  # a whole line less, or twice
        lines = head.splitlines(keepends=True)
        n = rng.randrange(len(lines))
        lines[n : n + 1] = rng.choice(([], [lines[n]] * 2))
        text, done = "".join(lines), f"line {n}"
    else:
        text, done = head[: word.start()] + new + head[word.end() :], f"{word[0]!r} -> {new!r}"
    path.write_bytes(text.encode("latin-1", "replace") + data[end:])
    return f"header: {done}"


# ---- JSON --------------------------------------------------------------------------------------------------


def places(content: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all values inside dicts and lists."""
    if isinstance(content, dict):
        items = list(content.items())
    elif isinstance(content, (list, tuple)):
        items = list(enumerate(content))
    else:
        return []
    return [(*before, key) for key, _ in items] + [p for k, v in items for p in places(v, (*before, k))]


def change_tree(content: Any, rng: random.Random) -> str:
    """Delete, replace or repeat values somewhere in nested dicts and lists, in place."""
    found = places(content)
    if not found:
        return "nothing"
    path = rng.choice(found)
    inside = content
    for key in path[:-1]:
        inside = inside[key]
    if isinstance(inside, tuple):
        return "nothing"
    kind = rng.choice(["del", "set", "set", "set", "deep", "copy"])
    if kind == "del":
        del inside[path[-1]]
    elif kind == "set":
        inside[path[-1]] = copy.deepcopy(rng.choice(VALUES))
    elif kind == "deep":
        inside[path[-1]] = {"a": [inside[path[-1]]] * rng.choice((1, 2, 500))}
    else:
        inside[path[-1]] = copy.deepcopy(rng.choice([_at(content, p) for p in rng.sample(found, 1)]))
    return f"{kind} {list(path)}"


def _at(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


def _json(path: Path, rng: random.Random) -> str:
    if rng.random() < 0.05:
        depth = rng.choice((100, 5_000, 200_000))
        path.write_text("[" * depth + rng.choice(("", "]" * depth)))
        return f"json: {depth} deep"
    if rng.random() < 0.05:
        path.write_text(json.dumps(rng.choice(VALUES)))
        return "json: one value"
    content = json.loads(path.read_text(encoding="utf-8"))
    done = [change_tree(content, rng) for _ in range(rng.randint(1, 2))]
    path.write_text(json.dumps(content), encoding="utf-8")
    return f"json: {'; '.join(done)}"


# ---- arrays and tensors ------------------------------------------------------------------------------------


def change_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """Another array in place of one."""
    kind = rng.choice(["nan", "inf", "neg", "zero", "big", "empty", "reshape", "scalar", "str", "dup", "int", "cut", "one"])
    numeric = array.dtype.kind in "fiub"
    if kind == "str":
        return np.array("hello")
    if kind == "empty":
        return array[:0] if array.ndim else np.zeros(0)
    if kind == "scalar":
        return np.array(array.ravel()[0] if array.size else 0)
    if kind == "reshape":
        return array.reshape(-1)
    if kind == "dup" and array.ndim:
        return np.concatenate([array, array])
    if kind == "cut" and array.ndim:
        return array[: len(array) // 2]
    if not numeric or not array.size:
        return array[..., None]
    if kind == "int":
        with np.errstate(invalid="ignore"):
            return array.astype(rng.choice([np.int32, np.uint8, np.int64, np.float16, np.complex64, bool]))
    changed = array.astype(np.float64) if kind in ("nan", "inf") and array.dtype.kind != "f" else array.copy()
    if kind == "neg":
        return -changed if array.dtype.kind != "b" else ~array
    if kind == "zero":
        return np.zeros_like(changed)
    with np.errstate(over="ignore"):
        value = {"nan": np.nan, "inf": np.inf}.get(kind)
        if value is None:
            value = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else 1e30 if array.dtype.kind == "f" else True
        if rng.random() < 0.5:
            changed[...] = value
        else:
            changed.reshape(-1)[rng.randrange(changed.size)] = value
    return changed


def _npz(path: Path, rng: random.Random) -> str:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    done = []
    for _ in range(rng.randint(1, 2)):
        name = rng.choice(list(arrays))
        if name == "header" and arrays[name].dtype.kind == "U" and arrays[name].ndim == 0 and rng.random() < 0.9:
            try:
                content = json.loads(str(arrays[name]))
            except ValueError:
                continue
            done.append(f"header {change_tree(content, rng)}")
            arrays[name] = np.array(json.dumps(content))
        elif rng.random() < 0.1:
            del arrays[name]
            done.append(f"del {name}")
            if not arrays:
                break
        else:
            arrays[name] = change_array(arrays[name], rng)
            done.append(f"{name} {arrays[name].dtype} {arrays[name].shape}")
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return f"npz: {'; '.join(done)}"


def _npy(path: Path, rng: random.Random) -> str:
    changed = change_array(np.load(path), rng)
    np.save(path, changed)
    return f"npy: {changed.dtype} {changed.shape}"


def _tensors(path: Path, rng: random.Random) -> str:
    import torch

    state = torch.load(path, weights_only=True)
    done = []
    for _ in range(rng.randint(1, 2)):
        tensors = [p for p in places(state) if isinstance(_at(state, p), torch.Tensor)]
        if tensors and rng.random() < 0.6:
            where = rng.choice(tensors)
            inside = _at(state, where[:-1])
            try:
                inside[where[-1]] = torch.from_numpy(np.array(change_array(_at(state, where).numpy(), rng)))
            except TypeError:  # words, and tuples
                continue
            done.append(f"{list(where)} {tuple(inside[where[-1]].shape)} {inside[where[-1]].dtype}")
        else:
            done.append(change_tree(state, rng))
    torch.save(state, path)
    return f"tensors: {'; '.join(done)}"


# ---- tables and DICOM --------------------------------------------------------------------------------------


def _csv(path: Path, rng: random.Random) -> str:
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    row = rng.randrange(len(rows))
    if not rows[row] or rng.random() < 0.2:
        rows[row : row + 1] = rng.choice(([], [rows[row]] * 2, [rows[row][:-1]], [[*rows[row], "x"]]))
        done = f"row {row}"
    else:
        column = rng.randrange(len(rows[row]))
        rows[row][column] = str(rng.choice([*WORDS, *NUMBERS, '"', "\n", "x" * 200_000]))
        done = f"cell {row}, {column}"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return f"csv: {done}"


def _dicom(path: Path, rng: random.Random) -> str:
    """Attributes with other values, several values, none at all."""
    import pydicom
    from pydicom import config

    config.settings.writing_validation_mode = config.IGNORE
    config.settings.reading_validation_mode = config.IGNORE
    dataset = pydicom.dcmread(path)
    dataset.walk(lambda _dataset, _element: None)  # parses everything
    done = []
    for _ in range(rng.randint(1, 3)):
        inside = dataset
        while True:
            # Not by iteration, which parses what was damaged before.
            element = inside.get_item(rng.choice(list(inside.keys())))
            if isinstance(element, pydicom.dataelem.RawDataElement):
                element = None
            if element is None or element.VR != "SQ" or not element.value or rng.random() < 0.2:
                break
            inside = rng.choice(list(element.value))
        if element is None:
            continue
        kind = rng.choice(["word", "word", "several", "del", "number", "vr"])
        done.append(f"{kind} {element.keyword or element.tag}")
        if kind == "del":
            del inside[element.tag]
            continue
        if element.VR in ("SQ", "OB", "OW", "OB or OW"):
            continue
        numeric = element.VR in ("US", "SS", "UL", "SL", "FD", "FL")
        if (kind == "vr" and numeric) or (kind == "word" and element.VR in ("FD", "FL")):
            raw: Any = str(rng.choice(WORDS)).encode("latin-1", "replace")
            inside[element.tag] = pydicom.dataelem.RawDataElement(element.tag, element.VR, len(raw), raw, 0, False, True)
        elif numeric:
            top = {"US": 65535, "SS": 32767, "UL": 2**32 - 1, "SL": 2**31 - 1}.get(element.VR)
            value = rng.choice((0, 1, 2, 8, 81, top)) if top else rng.choice(NUMBERS)
            inside[element.tag].value = [value, value] if kind == "several" else value
        else:
            words = [str(rng.choice([*NUMBERS, *WORDS])) for _ in range(rng.choice((2, 3, 6)))]
            raw = "\\".join(words if kind == "several" else words[:1]).encode("latin-1", "replace")
            raw += b" " * (len(raw) % 2)
            inside[element.tag] = pydicom.dataelem.RawDataElement(element.tag, element.VR, len(raw), raw, 0, False, True)
    try:
        dataset.save_as(path)
    except Exception as error:  # what pydicom cannot write is no input
        return f"dicom: not written ({type(error).__name__})"
    return f"dicom: {'; '.join(done)}"


_BY_SUFFIX: dict[str, Callable[[Path, random.Random], str]] = {
    ".json": _json, ".npz": _npz, ".npy": _npy, ".pt": _tensors, ".ckpt": _tensors, ".csv": _csv, ".dcm": _dicom,
}  # fmt: skip
