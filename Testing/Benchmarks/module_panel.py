"""A module's own panel on Slicer's scene libraries (slicer-core), with Qt offscreen: what its benchmarks work on."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def opened_panel(name: str) -> Iterator[tuple[Any, Any, Path]]:
    """The application, the panel of the module `name`, and a folder that is deleted afterwards."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path.insert(0, str(ROOT / "Testing" / "Slicer"))
    from host.application import Application

    with tempfile.TemporaryDirectory() as folder:
        app = Application(Path(folder))
        try:
            app.load_module(ROOT / "GaussianMRI" / name / f"{name}.py")
            yield app, app.select(name), Path(folder)
        finally:
            app.quit()
