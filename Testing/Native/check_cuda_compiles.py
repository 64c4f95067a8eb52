#!/usr/bin/env python3
"""Compile the CUDA kernels for every supported architecture with nvcc and NVRTC; report their resources.

    python Testing/Native/check_cuda_compiles.py [--json FILE] [sm_90 ...]

nvcc (found through PATH) also gives registers and spills; NVRTC (package cuda-core) is what users' machines
have. Exit status: 0 all compile, 1 something does not, 77 neither compiler is here. No GPU is used.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CSRC = REPOSITORY / "csrc"
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_120")

sys.path.insert(0, str(REPOSITORY))

from GaussianMRILib.native.support.cuda_launch import compile_kernels, entry  # noqa: E402


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on one architecture, as ptxas says."""

    architecture: str
    kernel: str
    registers: int
    shared_bytes: int
    spill_bytes: int  # stores + loads


_ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers([^\n]*)",
    re.DOTALL,
)


def compile_with_nvcc(nvcc: str, architecture: str) -> list[Resources]:
    """Resources of every kernel.

    Raises:
        RuntimeError: nvcc refuses or warns; the text is nvcc's.
    """
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder) / "kernels.cu"
        unit.write_text(entry(CSRC), encoding="utf-8")
        command = [
            nvcc,
            "-std=c++17",
            f"-arch={architecture}",
            "-cubin",
            "-Xptxas=-v",
            "-Werror=all-warnings",
            "-I",
            str(CSRC),
            "-o",
            str(Path(folder) / "kernels.cubin"),
            str(unit),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"nvcc for {architecture}:\n{result.stderr}{result.stdout}")
    found = []
    for kernel, arch, stores, loads, registers, rest in _ENTRY.findall(result.stderr + result.stdout):
        shared = re.search(r"(\d+) bytes smem", rest)
        spills = int(stores) + int(loads)
        found.append(Resources(arch, kernel, int(registers), int(shared.group(1)) if shared else 0, spills))
    return sorted(found, key=lambda r: r.kernel)


def compile_with_nvrtc(architecture: str) -> int:
    """Bytes of the cubin.

    Raises:
        ImportError: cuda-core is not installed.
        GaussianMRIError: NVRTC is missing or refuses.
    """
    return len(compile_kernels(architecture, CSRC)[1])


def main() -> int:
    """Run both compilers where they are; see the module's text for the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("architectures", nargs="*", default=ARCHITECTURES)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    nvcc = shutil.which("nvcc")
    table: list[Resources] = []
    cubins: dict[str, int] = {}
    failed = False
    for architecture in options.architectures:
        if nvcc is not None:
            try:
                table += compile_with_nvcc(nvcc, architecture)
            except RuntimeError as error:
                failed = True
                print(error, file=sys.stderr)
        try:
            cubins[architecture] = compile_with_nvrtc(architecture)
        except ImportError as error:
            print(f"NVRTC is not tried: {error}", file=sys.stderr)
        except Exception as error:
            failed = True
            print(f"NVRTC for {architecture}: {error}", file=sys.stderr)
    for row in table:
        print(
            f"{row.architecture:7} {row.kernel:20} {row.registers:4} registers {row.shared_bytes:6} B shared "
            f"{row.spill_bytes:4} B spilled"
        )
    for architecture, size in cubins.items():
        print(f"{architecture:7} NVRTC: {size} bytes of machine code")
    if options.json:
        figures = {"nvcc": [asdict(row) for row in table], "nvrtc": cubins}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if not table and not cubins and not failed:
        print("neither nvcc nor NVRTC (package cuda-core) is here", file=sys.stderr)
        return 77
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
