"""Run the benchmarks and gather their results: `python -m Testing.Benchmarks [kernels] [quality] [fit] ...`.

Each benchmark is a program of its own that prints its table and writes JSON into `results/`; here they run
one after the other, and `results/summary.json` gets all of it, with the machine and date of each. `report.py` fills
the tables of docs/ from it. `cinematic` and `cinematic_clipgs`, the training of every method, `experiment`, grading
on phantoms, and `grading_sagittal`, their foramina on T1, take half an hour or more each and run only when they are named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .stored import BENCHMARKS, LONG, RESULTS, machines

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


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
    summary: dict[str, Any] = {"machines": machines()}
    summary.update({name: json.loads(path.read_text()) for name, path in stored.items() if path.is_file()})
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
