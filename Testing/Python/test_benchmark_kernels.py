"""The benchmark of kernels runs, and says what its tables need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from Testing.Benchmarks import kernels


@pytest.mark.slow
@pytest.mark.usefixtures("needs_kernels")
def test_the_benchmark_of_kernels_runs(tmp_path: Path) -> None:
    assert kernels.main(["--quick", "--json", str(tmp_path / "kernels.json")]) == 0
    figures = json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8"))
    assert all(row["forward_ms"] > 0 and row["backward_ms"] > 0 for row in figures["rates"] + figures["scaling"])
    assert figures["scipy"]["ratio"] > 1 and figures["reference"]["ratio"] > 10
