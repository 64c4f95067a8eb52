"""Which part of the library may import which, and that no files import each other in a circle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rooms import PACKAGE, ROOMS, circle, import_graph, sources, table, wrong_imports

ROOT = Path(__file__).resolve().parents[2]
TEXTS = sources()


def test_every_room_names_lower_rooms_only() -> None:
    names = list(ROOMS)
    assert len(TEXTS) > 200
    for number, (name, room) in enumerate(ROOMS.items()):
        assert set(room.imports) <= set(names[:number]), f"{name} may import what does not stand before it"
        assert list(room.imports) == sorted(room.imports, key=names.index), f"the rooms of {name} are in another order"


def test_files_import_what_their_room_may_import() -> None:
    assert wrong_imports(import_graph(TEXTS)) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle(import_graph(TEXTS)) == []


@pytest.mark.parametrize(
    "text",
    [
        "from ..cli import app",
        "from ..cli.app import table",
        "from .. import cli",
        f"import {PACKAGE}.cli.app",
        f"from {PACKAGE} import cli",
        "def late():\n    from ..cli.app import table",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..cli import app",
    ],
)
def test_a_wrong_import_is_found(text: str) -> None:
    wrong = wrong_imports(import_graph({**TEXTS, "geometry/planted.py": text}))
    assert len(wrong) == 1
    assert re.fullmatch(r"geometry/planted\.py imports cli/\S+, and geometry may not import cli", wrong[0])


@pytest.mark.parametrize("text", ["from . import slab", "def late():\n    from .slab import slab_image"])
def test_a_circle_of_files_is_found(text: str) -> None:
    planted = f"{TEXTS['geometry/slab.py']}\n\ndef late():\n    from .planted import nothing\n"
    graph = import_graph({**TEXTS, "geometry/planted.py": text, "geometry/slab.py": planted})
    assert sorted(set(circle(graph))) == ["geometry/planted.py", "geometry/slab.py"]
    assert wrong_imports(graph) == []


def test_a_room_that_nothing_needs_is_found() -> None:
    graph = import_graph(TEXTS)
    alone = {path: targets - {"cohort/__init__.py"} for path, targets in graph.items()}
    assert "grading may import cohort and does not" in wrong_imports(alone)
    with pytest.raises(KeyError, match=r"attic/box\.py is in no room"):
        wrong_imports({**graph, "attic/box.py": {"errors.py"}})


def test_the_design_has_the_table() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    assert table() in design, "put what `python Testing/Python/rooms.py` prints into docs/design.md"


def test_kernels_include_what_their_operators_import() -> None:
    """A folder of csrc includes from the folders whose Python counterparts it may import."""
    order = {
        name.removeprefix("native/"): {other.removeprefix("native/") for other in room.imports}
        for name, room in ROOMS.items()
        if name.startswith("native/")
    }
    csrc = ROOT / "csrc"
    assert {p.name for p in csrc.iterdir() if p.is_dir()} == set(order)
    for path in csrc.glob("*/*.*"):
        for folder in re.findall(r'(?m)^#include "(\w+)/', path.read_text(encoding="utf-8")):
            known = {path.parent.name, *order[path.parent.name]}
            assert folder in known, f"{path.relative_to(ROOT)} includes {folder}"
