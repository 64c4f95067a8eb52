"""Time and memory of grading a whole study: `python -m Testing.Benchmarks.grading_study`.

`gaussianmri grade predict` in a process of its own, from DICOM and a label map to the table of 25 grades: five networks of
full size (9 x 112 x 224 pixels), 16 views each. Those of the recesses see acquired slices, or planes that are rendered from
Gaussians, for which the axial series is fitted first. The study is the synthetic spine's, with pixels as fine as a clinic's.
Weights are random: time and memory do not depend on them.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

from .stored import RESULTS, store

ROOT = Path(__file__).resolve().parents[2]
TARGET_S, TARGET_MB = 30.0, 2560
SHAPE = (9, 112, 224)
PIXEL_MM = 0.6
#: A processor without matrix units.
PLAIN = {
    "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "GAUSSIANMRI_SIMD": "avx2",
}  # fmt: skip


def write_networks(folder: Path) -> None:
    """One of each condition and side."""
    import torch
    from study_scenes import KINDS

    from GaussianMRILib.grading.labels import STENOSES
    from GaussianMRILib.grading.model_card import ModelCard, save_grader
    from GaussianMRILib.grading.network import GradingNetwork

    torch.manual_seed(0)
    for task in STENOSES:
        card = ModelCard(task, SHAPE, SHAPE[1:], input_types=(KINDS[task],), synthetic=True)
        save_grader(folder / f"{task.name}.pt", GradingNetwork(), card)


def measure(folder: Path, threads: int, shown: str, avx2: bool) -> dict[str, Any]:
    """One call of the command; `shown`: what networks of axial images see."""
    table = folder / "table.csv"
    command = [
        sys.executable, "-m", "GaussianMRILib", "grade", "predict", str(folder / "models"), "--study", str(folder / "dicom"),
        "--labels", str(folder / "labels.nii.gz"), "--type", shown, "-o", str(table), "--threads", str(threads),
        "--device", "cpu", "-q",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **(PLAIN if avx2 else {})}
    started = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if child.returncode:
        raise RuntimeError(f"the command ended with {child.returncode}")
    with open(table, encoding="utf-8-sig", newline="") as file:
        grades = sum(bool(row["grade"]) for row in csv.DictReader(file))
    found = {
        "shown": shown, "avx2": avx2, "threads": threads, "grades": grades, "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)),
    }  # fmt: skip
    found["within_target"] = grades == 25 and seconds <= TARGET_S and found["peak_mb"] <= TARGET_MB
    print(
        f"{shown:8} {'AVX2 only' if avx2 else 'as it is':9} {grades} grades in {seconds:.1f} s (target {TARGET_S:g} s), "
        f"{found['cpu_seconds']} s of processor time, {found['peak_mb']} MB (target {TARGET_MB} MB)",
        flush=True,
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS / "grading_study.json")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "Testing" / "Python"))
    from study_scenes import stenosed_left, write_study

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "models").mkdir()
        write_study(folder, stenosed_left(), pixel=PIXEL_MM)
        write_networks(folder / "models")
        rows = [measure(folder, options.threads, *case) for case in product(("acquired", "R-GS"), (False, True))]
    store(options.json, {"views": 16, "networks": 5, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
