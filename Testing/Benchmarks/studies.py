"""Real studies of several series: `python -m Testing.Benchmarks.studies`.

Every second slice of each stack is left out in turn (first and last ones are kept, in series of several blocks those of each
block), and in exams of three planes each stack whole. All of them are predicted from what remains:

fused       `gm.fit` of all remaining stacks, as users call it: it registers and chooses how to fuse by itself
alone       `gm.fit` of one of them; "best single" is the one that turns out best, which nobody knows beforehand
mean        of these single fits, each brought to one mean and spread on the common pixels
Tikhonov    `baselines.SuperResolution` of the stacks brought to one scale in the same way, 0.8 mm voxels
spline      cubic, of the stack whose slices lie nearest to the left-out ones

PSNR in dB over the slice's 99.5th percentile after a line through the intensities, NCC, and local NCC (7 mm); the mean over
slices, on pixels that every method shows. Poses: see `studies_rows`. To bound the time, studies are cropped to a box of
100 mm around the middle of what the stacks share; `--whole` does without. The second section fits three studies whole and
measures time, memory, file size and sharpness, once as it is and once without instructions newer than AVX2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import GaussianMRILib as gm

from .stored import RESULTS, store
from .studies_full import FULL, THREADS, fit_once, measure
from .studies_pictures import save_picture
from .studies_rows import CASES, SHARED_DATA, Singles, row_of, study_of

#: Rows of `--quick`: study, stack, whether it is left out whole.
QUICK = (
    ("prostate_a", "ax_t2", False),
    ("prostate_a", "sag_t2", True),
    ("prostate_b", "sag_t2", True),
    ("lumbar_hitachi T2", "sag_t2", False),
)
#: Of the rows, and of the full-size fits.
STUDIES = list(dict.fromkeys([*CASES, *FULL]))
RIVALS = {"best single": None, "mean": "mean", "Tikhonov": "Tikhonov", "spline": "spline"}


def summary_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Fused minus each rival: mean over rows, rows won, and the worst row, for PSNR, NCC and local NCC."""
    measured = [row for row in rows if "scores" in row]
    result: dict[str, Any] = {"rows": len(measured)}
    for rival, key in RIVALS.items() if measured else ():
        for measure_name in ("psnr", "ncc", "local"):
            gains = [
                row["scores"]["fused"][measure_name] - row["scores"][key or row["best_single"]][measure_name]
                for row in measured
            ]
            worst = int(np.argmin(gains))
            result.setdefault(rival, {})[measure_name] = {
                "mean": round(float(np.mean(gains)), 4),
                "won": sum(gain > 0 for gain in gains),
                "worst": round(gains[worst], 4),
                "worst_row": measured[worst]["label"],
            }
    return result


def print_row(row: dict[str, Any]) -> None:
    if "not_available" in row:
        print(f"{row['label']:48} not available: {row['not_available'][:200]}", flush=True)
        return
    print(f"{row['label']:48} {row['slices']} slices, {row['chosen']}, moved as the others: {row['same_motions']}, "
          f"{row['seconds']:.0f} s, {row['cpu_seconds']:.0f} CPU-s")  # fmt: skip
    for key, score in row["scores"].items():
        mark = " <- best single" if key == row["best_single"] else ""
        print(f"    {key:20} {score['psnr']:6.2f} dB  NCC {score['ncc']:.3f}  local {score['local']:.3f}{mark}")
    sys.stdout.flush()


def print_full(row: dict[str, Any]) -> None:
    label = f"{row['study']}{', AVX2' if row['avx2'] else ''}"
    if "not_available" in row:
        print(f"{label:30} not available: {row['not_available']}", flush=True)
        return
    steps = f"; steps {row['step_percent']} %, elsewhere {row['elsewhere_percent']} %" if "step_percent" in row else ""
    sharp = "; ".join(f"{s['stack']} {s['psnr']:.1f} dB, {s['energy']:.0%} of the gradient energy" for s in row["stacks"])
    print(f"{label:30} {row['seconds']:.0f} s, {row['cpu_seconds']:.0f} CPU-s, {row['peak_mb']} MB, "
          f"file {row['file_mb']:.0f} MB; {sharp}{steps}", flush=True)  # fmt: skip


def print_summary(found: dict[str, Any]) -> None:
    for rival in RIVALS:
        for name, unit in (("psnr", "dB"), ("ncc", "NCC"), ("local", "local NCC")):
            if rival in found:
                gain = found[rival][name]
                print(f"fused - {rival:12} {gain['mean']:+.3f} {unit}, better in {gain['won']} of {found['rows']}; "
                      f"worst {gain['worst']:+.3f} ({gain['worst_row']})")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=STUDIES)
    parser.add_argument("--stacks", nargs="+", metavar="STACK", help="leave out these only")
    parser.add_argument("--only", choices=("rows", "full"), help="one section; the other stays as it was")
    parser.add_argument("--whole", action="store_true", help="rows of whole studies, not of a box of 100 mm")
    parser.add_argument("--quick", action="store_true", help="four rows, no full-size fits")
    parser.add_argument("--threads", type=int, default=THREADS, help="of the rows; full-size fits have 2")
    parser.add_argument("--resume", action="store_true", help="keep the rows that the file has already")
    parser.add_argument("--verify", action="store_true", help="register again, and compare with what the fit found")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="PNGs of each row's middle slice and of whole exams")
    parser.add_argument("--json", type=Path, default=RESULTS / "studies.json", help="file for the figures")
    parser.add_argument("--fit-once", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads that wait for each other would otherwise spin, and beside other programs most CPU seconds were theirs.
        command = [sys.executable, "-m", "Testing.Benchmarks.studies", *(sys.argv[1:] if argv is None else argv)]
        return subprocess.run(command, env={**os.environ, "OMP_WAIT_POLICY": "passive"}).returncode
    if options.fit_once:
        name, folder, output = options.fit_once
        fit_once(name, Path(folder), Path(output))
        return 0
    if not SHARED_DATA.is_dir():
        print("The shared scans are not in ../shared/data beside the repository.")
        return 1
    import torch

    torch.set_num_threads(options.threads)
    keep = (options.only or options.resume) and options.json.is_file()
    stored = json.loads(options.json.read_text()) if keep else {}
    results: dict[str, Any] = {"box_mm": None if options.whole else 100, "rows": [], "full": [], **stored}
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "full":
            results["rows"] = [
                row
                for row in results["rows"]
                if (options.resume and "scores" in row)
                or row["study"] not in options.studies
                or (options.stacks and row["left_out"] not in options.stacks)
            ]
            _rows(options, Path(folder), results)
            results["summary"] = summary_of(results["rows"])
            _save(options.json, results, "rows")
            print()
            print_summary(results["summary"])
        if options.only != "rows" and not options.quick:
            print("\nFull size")
            results["full"] = [row for row in results["full"] if row["study"] not in options.studies]
            for avx2 in (False, True):
                for name in (study for study in FULL if study in options.studies):
                    results["full"].append(measure(name, Path(folder), avx2, options.pictures))
                    print_full(results["full"][-1])
                    _save(options.json, results, "full")
    print(f"\nWrote {options.json}")
    return 0


def _rows(options: argparse.Namespace, folder: Path, results: dict[str, Any]) -> None:
    picture = partial(save_picture, options.pictures) if options.pictures else None
    done = {row["label"] for row in results["rows"]}
    for name in (study for study in options.studies if study in CASES):
        study, singles = study_of(name, folder, options.whole), Singles()
        for whole in (False, True) if CASES[name].whole else (False,):
            for number, stack in enumerate(study.stacks):
                if options.quick and (name, stack.name, whole) not in QUICK:
                    continue
                if options.stacks and stack.name not in options.stacks:
                    continue
                label = f"{name}: {stack.name}, {'whole' if whole else 'every second slice'}"
                if label in done:
                    continue
                started = time.perf_counter()
                try:
                    row = row_of(study, number, whole, singles, options.verify, picture)
                except gm.GaussianMRIError as error:
                    row = {"study": name, "left_out": stack.name, "whole": whole, "label": label,
                           "not_available": str(error)}  # fmt: skip
                row["row_s"] = round(time.perf_counter() - started, 1)
                results["rows"].append(row)
                _save(options.json, results, "rows")
                print_row(row)


def _save(path: Path, results: dict[str, Any], part: str) -> None:
    store(path, results, [part])


if __name__ == "__main__":
    sys.exit(main())
