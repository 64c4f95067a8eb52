"""Full-size fits for `studies`, each in a process of its own: time, memory, file size, and what the field shows.

The child reads, fits and saves; what the system counted for it is its CPU time and peak memory, reading included (`wait4`).
The parent loads the file and renders the acquired slices' own planes: their PSNR, and the share of their gradient
energy that the field has (1: as sharp as the slices; their noise counts as well). Of several series also the steps where
one ends inside another (`studies_steps`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from GaussianMRILib.metrics import gradient_energy

from .studies_pictures import save_exam
from .studies_places import motions_of_slices
from .studies_rows import PLANES, ROOT, Case, read
from .studies_steps import steps_of

#: Stacks that are fitted whole.
FULL = {
    "prostate_a": Case("mr_multi/prostate_a", PLANES),
    "lumbar_hitachi T2": Case("mr_multi/lumbar_hitachi", ("sag_t2", "ax_t2")),
    "brain FSE T2 2.5 mm": Case("mr_dicom/adi_ax_fse_t2_2p5mm", ("adi_ax_fse_t2_2p5mm",)),
}
#: A processor without AVX-512 and matrix units, as most workstations are.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "GAUSSIANMRI_SIMD": "avx2"}
THREADS = 2


def fit_once(name: str, folder: Path, output: Path) -> None:
    """Fit a study whole and save it; runs in a process of its own and prints JSON."""
    import torch

    torch.set_num_threads(THREADS)
    import GaussianMRILib as gm
    from GaussianMRILib import native
    from GaussianMRILib.fitting import fast  # noqa: F401  imports are not part of a fit

    stacks = read(FULL[name], folder)
    native.backend()
    started, used = time.perf_counter(), time.process_time()
    field = gm.fit(stacks, seed=0)
    done = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - used}
    field.save(output)
    print(json.dumps({key: round(value, 1) for key, value in done.items()}))


def measure(name: str, folder: Path, avx2: bool, pictures: Path | None = None) -> dict[str, Any]:
    """One full-size fit; `avx2` tells the libraries to do without newer instructions. `pictures`: folder for a PNG."""
    import GaussianMRILib as gm

    stacks = read(FULL[name], folder)
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "field.gmri"
        command = [sys.executable, "-m", "Testing.Benchmarks.studies", "--fit-once", name, str(folder), str(output)]
        environment = {**os.environ, **(AVX2 if avx2 else {})}
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert child.stdout is not None
        text = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        result: dict[str, Any] = {"study": name, "avx2": avx2}
        if child.returncode or not output.is_file():
            return {**result, "not_available": f"the fit's process ended with {child.returncode}"}
        result.update(json.loads(text.splitlines()[-1]))
        result["process_cpu_seconds"] = round(usage.ru_utime + usage.ru_stime, 1)
        result["peak_mb"] = round(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))
        result["file_mb"] = round(output.stat().st_size / 1e6, 1)
        result["pixels"] = int(sum(stack.pixels.size for stack in stacks))
        field = gm.load_field(output) if hasattr(gm, "load_field") else gm.GaussianField.load(output)
        result["gaussians"] = len(field)
        result["chosen"] = (field.report.get("fusion") or {}).get("method", "alone")
        motions = _motions(field, stacks)
        result["stacks"] = [_sharpness(field, stack, own) for stack, own in zip(stacks, motions, strict=True)]
        if len(stacks) > 1:
            result.update(steps_of(field, stacks, motions))
        if pictures is not None:
            save_exam(pictures, name, field, stacks, motions)
    return result


def _motions(field: Any, stacks: Sequence[Any]) -> list[list[np.ndarray]]:
    """The motion (4, 4) of each slice of each stack."""
    ends = np.cumsum([len(stack.pixels) for stack in stacks])[:-1]
    return [motions_of_slices(s, poses) for s, poses in zip(stacks, np.split(field.slice_poses, ends), strict=True)]


def _sharpness(field: Any, stack: Any, motions: Sequence[np.ndarray], most: int = 9) -> dict[str, Any]:
    """PSNR and share of gradient energy on some acquired slices' own planes."""
    psnr, energy = [], []
    for k in np.unique(np.linspace(1, len(stack.pixels) - 2, min(most, len(stack.pixels))).round().astype(int)):
        plane, truth = stack.plane(int(k)).transformed(motions[k]), stack.pixels[k].astype(np.float64)
        image = field.render(plane).astype(np.float64)
        valid = np.isfinite(image)
        u, v = image[valid], truth[valid]
        if u.std() <= 0 or v.std() <= 0:
            continue
        slope, offset = np.polyfit(u, v, 1)
        error = float(np.mean((slope * u + offset - v) ** 2))
        psnr.append(10 * np.log10(float(np.percentile(v, 99.5)) ** 2 / max(error, 1e-12)))
        energy.append(gradient_energy(slope * image + offset, truth))
    return {"stack": stack.name, "psnr": round(float(np.mean(psnr)), 2), "energy": round(float(np.mean(energy)), 3)}
