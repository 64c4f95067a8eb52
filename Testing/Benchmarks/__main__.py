"""Run the benchmarks and gather their results: `python -m Testing.Benchmarks [kernels] [quality] [fit] ...`.

Each benchmark is a program of its own that prints its table and writes JSON into `results/`; here they run
one after the other, and `results/summary.json` gets all of it with the name of the machine. `report.py` fills
the tables of docs/ from it. `cinematic` and `cinematic_clipgs`, the training of every method, and `experiment`, grading
on phantoms, take an hour or more each and run only when they are named.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
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


LONG = ("cinematic", "cinematic_clipgs", "experiment")


def machine() -> dict[str, Any]:
    """What a reader of the figures has to know of the machine."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        name = models[0] if models else name
    import numpy
    import torch

    from GaussianMRILib.native.support.backend import kernels

    library = kernels()
    matrix_units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return {
        "processor": name,
        "instruction_sets": f"{library.simd if library else 'none'} in the kernels, "
        f"{torch.backends.cpu.get_cpu_capability()} in torch, {'with' if matrix_units else 'no'} bfloat16 matrix units",
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "benchmarks", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="smaller, where a benchmark can")
    parser.add_argument("--gather", action="store_true", help="measure nothing, put the stored results together again")
    options = parser.parse_args()
    unknown = set(options.benchmarks) - {*BENCHMARKS, *LONG}
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    RESULTS.mkdir(exist_ok=True)
    failed = []
    for name in () if options.gather else options.benchmarks or BENCHMARKS:
        print(f"==== {name} ====", flush=True)
        output = RESULTS / f"{name}.json"
        command = [sys.executable, "-m", f"Testing.Benchmarks.{name}", "--json", str(output)]
        if options.quick:
            command.append("--quick")
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(name)
    stored = {name: RESULTS / f"{name}.json" for name in (*BENCHMARKS, *LONG)}
    summary: dict[str, Any] = {"machine": machine()}
    summary.update({name: json.loads(path.read_text()) for name, path in stored.items() if path.is_file()})
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
