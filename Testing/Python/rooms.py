"""The rooms of the library, what each is for, and which others it may import: the one place where this is written.

`python Testing/Python/rooms.py` prints the table that docs/design.md has.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = "GaussianMRILib"
LIBRARY = Path(__file__).resolve().parents[2] / PACKAGE


@dataclass(frozen=True)
class Room:
    """A folder or a file of the library.

    Attributes:
        purpose: what is in it.
        imports: names of the rooms that its files import, anywhere in them; all stand before it in `ROOMS`.
    """

    purpose: str
    imports: tuple[str, ...]


def _room(purpose: str, imports: str) -> Room:
    return Room(purpose, tuple(imports.split()))


#: From the lowest to the highest.
ROOMS: Mapping[str, Room] = {
    "errors": _room("the error that a user can act on", ""),
    "version": _room("the library's version", ""),
    "interruption": _room("how long work hears a cancel", ""),
    "durations": _room("how long things take, in words", ""),
    "files": _room("reading, with what is wrong in one sentence; writing, whole or not at all", "errors interruption"),
    "tensor_files": _room("checkpoints of torch", "errors files"),
    "geometry": _room(
        "image planes, sets of them, slabs, curves, markups; `ijk_to_ras` in RAS millimetres everywhere",
        "errors files",
    ),
    "stacks": _room("slices, each with its own pose and thickness; readers", "errors files geometry"),
    "volumes": _room(
        "voxels: grids, their intensities, agreement with the slices, resampling, least squares",
        "errors interruption geometry stacks",
    ),
    "native/support": _room("what all kernels share: library, build, launches, threads", "errors files"),
    "device": _room("where torch computes", "errors native/support"),
    "native/planes": _room("Gaussians on planes, SSIM, Adam", "native/support"),
    "native/lattice": _room("Gaussians of one shape on a grid", "native/support native/planes"),
    "native/splats": _room("splats that a plane cuts open", "errors native/support"),
    "native/paths": _room("path tracing", "native/support"),
    "native": _room(
        "operators that fits call, with or without a graph",
        "interruption native/support native/planes native/lattice",
    ),
    "gaussians": _room(
        "the fitted field: render planes and volumes, confidence maps, files",
        "errors interruption files geometry volumes native",
    ),
    "priors": _room(
        "what is known before a fit: ridge filters, network trained on synthetic images",
        "errors interruption files geometry stacks volumes device",
    ),
    "baselines": _room(
        "classical resampling, which the fit is measured against", "errors geometry stacks volumes"
    ),
    "methods": _room("names of all ways to resample", "stacks volumes baselines"),
    "metrics": _room("PSNR, SSIM, LPIPS, sharpness", "errors"),
    "evaluation": _room(
        "simulated slices of real scans, planes with a known image", "errors geometry stacks volumes metrics"
    ),
    "fitting": _room(
        "presets `fast` and `paper`; registration and fusion of several series",
        "errors version interruption geometry stacks volumes device native gaussians priors baselines metrics",
    ),
    "writers": _room("NRRD, NIfTI, PNG, derived DICOM", "errors version files geometry stacks"),
    "labels": _room(
        "segmentations that go along onto planes and into volumes, and their files",
        "errors files geometry stacks writers",
    ),
    "cinematic": _room(
        "path tracer, splats that a plane cuts open, their training, files and films",
        "errors interruption durations files tensor_files geometry stacks device native/splats native/paths native metrics",
    ),
    "cohort": _room("many studies on any executor, one line of report each", "errors interruption files"),
    "phantom": _room("a synthetic lumbar spine that is scanned into DICOM", "errors files geometry stacks"),
    "grading": _room(
        "discs, regions, networks, their evaluation, RSNA's layout, reports",
        "errors version interruption files tensor_files geometry stacks volumes device gaussians baselines "
        "methods fitting writers labels cohort",
    ),
    "mrml": _room(
        "Slicer's scene: nodes to stacks, planes and regions; fields and images to nodes",
        "errors interruption files geometry stacks volumes native/support gaussians baselines evaluation "
        "fitting writers labels cinematic phantom grading",
    ),
    "cli": _room(
        "the command",
        "errors version interruption durations files geometry stacks volumes device native gaussians priors methods metrics "
        "evaluation fitting writers labels cinematic cohort phantom grading",
    ),
    "__main__": _room("the same as `python -m GaussianMRILib`", "cli"),
    "__init__": _room(
        "the public names, loaded when they are used",
        "errors version geometry stacks gaussians baselines metrics fitting writers",
    ),
}


def sources() -> dict[str, str]:
    """Text of every file of the library, by its path within it."""
    files = sorted(LIBRARY.rglob("*.py"))
    return {path.relative_to(LIBRARY).as_posix(): path.read_text(encoding="utf-8") for path in files}


def import_graph(texts: Mapping[str, str]) -> dict[str, set[str]]:
    """The files of the library that each file imports, at its top, in a function, or for type checkers alone.

    That a file's package is imported with it is not counted, else nothing in a package could be offered by it.
    """
    names = {_name(path): path for path in texts}
    graph = {}
    for path, text in texts.items():
        found = {names[target] for target in _targets(path, text, names)}
        graph[path] = found - {path}
    return graph


def _name(path: str) -> str:
    """Of the module in a file."""
    return ".".join([PACKAGE, *path.removesuffix(".py").split("/")]).removesuffix(".__init__")


def _targets(path: str, text: str, names: Mapping[str, str]) -> Iterator[str]:
    for name in _imported(path, text):
        while name not in names and "." in name:  # a name in a module
            name = name.rsplit(".", 1)[0]
        if name in names:
            yield name


@functools.cache
def _imported(path: str, text: str) -> list[str]:
    """Full names of what a file imports."""
    package = ".".join([PACKAGE, *path.split("/")[:-1]])
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (above, node.module) if part)
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found


def room_of(path: str) -> str:
    """The room of a file: its innermost folder that is a room, else the file itself.

    Raises:
        KeyError: `ROOMS` has no such room.
    """
    place = path.removesuffix(".py").removesuffix("/__init__")
    while place not in ROOMS:
        if "/" not in place:
            raise KeyError(f"{path} is in no room of Testing/Python/rooms.py")
        place = place.rsplit("/", 1)[0]
    return place


def wrong_imports(graph: Mapping[str, set[str]]) -> list[str]:
    """Sentences on imports between rooms that `ROOMS` does not have, and on what it has and no file needs."""
    wrong, used = [], set()
    for path in sorted(graph):
        for target in sorted(graph[path]):
            here, there = room_of(path), room_of(target)
            used.add((here, there))
            if there not in (here, *ROOMS[here].imports):
                wrong.append(f"{path} imports {target}, and {here} may not import {there}")
    for room, facts in ROOMS.items():
        wrong += [f"{room} may import {other} and does not" for other in facts.imports if (room, other) not in used]
    return wrong


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Files that import each other in a circle, the first one at the end again; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def table() -> str:
    """`ROOMS` as Markdown."""
    lines = ["| room | what is in it | imports |", "|---|---|---|"]
    lines += [f"| `{name}` | {room.purpose} | {', '.join(room.imports)} |" for name, room in ROOMS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
