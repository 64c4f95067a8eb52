"""How long reading takes: 2,000 DICOM files of 256 x 256 pixels in 20 series, through `gm.read_stacks`.

    python -m Testing.Benchmarks.reading [--quick] [--json PATH]

The files have what scanners write besides the image: sixty further elements and a private one of 10 kB, so that a header
has 15 kB. They were just written, so the disk is the system's cache. In the same run, and in turn with it, the headers of
the same files are read by pydicom alone, without pixels (`floor`): nothing that understands DICOM in Python through
pydicom can take less. Seconds are the least of several runs of the clock, and the processor's of the same run. The target
is 10 s for all files (--quick: 200 files in 2 series).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

import GaussianMRILib as gm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Python"))
import dicom_files

from .stored import store

SERIES, SLICES, SIDE, TARGET = 20, 100, 256, 10.0


def write(folder: Path, series: int) -> list[Path]:
    """Files of `series` axial series, each in a folder of its own."""
    noise = np.random.default_rng(0)
    paths = []
    for number in range(series):
        (folder / f"{number}").mkdir()
        for k in range(SLICES):
            pixels = noise.integers(0, 4000, (SIDE, SIDE)).astype(np.uint16)
            dataset = dicom_files.image(
                pixels, (-100, -100, 2.5 * k), SeriesInstanceUID=f"1.2.3.{number}", SeriesNumber=number + 1,
                InstanceNumber=k + 1, SeriesDescription=f"series {number}", EchoTime=20.0 + number, SpacingBetweenSlices=2.5,
            )  # fmt: skip
            private = dataset.private_block(0x0029, "MADE FOR A BENCHMARK", create=True)
            private.add_new(0x10, "OB", noise.bytes(10_240))
            for n in range(60):
                private.add_new(0x20 + n, "LO", f"value {n} of image {k}")
            paths.append(dicom_files.save(dataset, folder / f"{number}" / f"{k}.dcm"))
    return paths


def clocks(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the wall's clock and of the processor's."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def headers(paths: list[Path]) -> None:
    for path in paths:
        pydicom.dcmread(path, stop_before_pixels=True)


def measure(series: int, runs: int = 3) -> dict[str, Any]:
    """Seconds of reading and of its floor."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write(folder, series)
        stacks = gm.read_stacks(folder)
        assert [stack.pixels.shape for stack in stacks] == [(SLICES, SIDE, SIDE)] * series
        del stacks
        times: dict[str, list[tuple[float, float]]] = {"read_stacks": [], "floor": []}
        for _ in range(runs):
            times["read_stacks"].append(clocks(lambda: gm.read_stacks(folder)))
            times["floor"].append(clocks(lambda: headers(paths)))
    found: dict[str, Any] = {
        what: dict(zip(("seconds", "cpu_seconds"), min(each), strict=True)) for what, each in times.items()
    }
    share = found["floor"]["cpu_seconds"] / found["read_stacks"]["cpu_seconds"]
    return found | {"files": len(paths), "series": series, "share_of_floor": share, "target_seconds": TARGET}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two series, for a look")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    found = measure(2 if options.quick else SERIES)
    for what, title in (("read_stacks", "read_stacks"), ("floor", "headers by pydicom alone")):
        seconds, processor = found[what].values()
        print(f"{title:25} {seconds:6.2f} s {processor:6.2f} CPU-s   {found['files']} files")
    print(f"{'share of the floor':25} {100 * found['share_of_floor']:.0f} % of the CPU-seconds; target {TARGET:g} s")
    if options.json:
        store(options.json, found)


if __name__ == "__main__":
    main()
