"""Fixtures of the tests on real MRML; skipped where slicer-core (or Slicer) is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A fresh scene with its logics; see `host.Host`."""
    pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
    from host import Host

    made = Host(tmp_path_factory.mktemp("slicer"))
    yield made
    made.scene.Clear(True)


@pytest.fixture
def scene(host: Any) -> Any:
    """The host's vtkMRMLScene."""
    return host.scene
