"""Results of the benchmarks in `results/`: a file for each, and `machines.json`, when and on which machine each was made."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
#: What `make bench` measures.
BENCHMARKS = (
    "kernels",
    "lattice",
    "quality",
    "studies",
    "fit",
    "panel",
    "reading",
    "cinematic_trace",
    "cinematic_raster",
    "cinematic_view",
    "grading",
    "grading_study",
)
#: What takes half an hour or more, and runs when it is named.
LONG = ("cinematic", "cinematic_clipgs", "experiment", "grading_sagittal")


def machine() -> dict[str, Any]:
    """What a reader of the figures has to know of the machine, and the date."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        name = models[0] if models else name
    import numpy
    import torch

    from GaussianMRILib.device import multiplies_bfloat16
    from GaussianMRILib.native.support.backend import kernels

    library, units = kernels(), multiplies_bfloat16("cpu")
    return {
        "processor": name,
        "instruction_sets": f"{library.simd if library else 'none'} in the kernels, "
        f"{torch.backends.cpu.get_cpu_capability()} in torch, {'with' if units else 'no'} bfloat16 matrix units",
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "date": time.strftime("%Y-%m-%d"),
    }


def store(path: Path, results: Any, parts: Sequence[str] = ()) -> None:
    """Write a benchmark's results; among the stored ones the machine and the date are noted with them.

    Args:
        parts: what of them was measured now, where each part has a date of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if path.parent.resolve() == RESULTS:
        noted = machines()
        noted |= dict.fromkeys([f"{path.stem}.{part}" for part in parts] or [path.stem], machine())
        text = json.dumps(dict(sorted(noted.items())), indent=1)
        (RESULTS / "machines.json").write_text(text + "\n", encoding="utf-8")


def machines() -> dict[str, dict[str, Any]]:
    """What `machine` said, by result or part of one ("quality.pair").

    Where "date" was not noted, "stored" is when the result came into the repository, and the rest is of that time.
    """
    path = RESULTS / "machines.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
