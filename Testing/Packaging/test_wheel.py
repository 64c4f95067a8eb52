"""The package: built as a source archive and from that as a wheel, into `dist`, and installed into an empty environment.

`make package` runs this. The environment sees the packages of the tests' own one after its own, so nothing is fetched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import GaussianMRILib as gm
from GaussianMRILib.native.support.build import library_name
from GaussianMRILib.native.support.cuda_launch import source_files

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "GaussianMRILib"
# An editable checkout or a chosen backend must not answer for the wheel.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("GAUSSIANMRI_", "PYTHONPATH"))}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel() -> Path:
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, ROOT, cwd=ROOT)
    assert (dist / f"gaussianmri-{gm.__version__}.tar.gz").is_file()
    (made,) = dist.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of an environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    run(scripts / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    own = run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    assert others
    (Path(own) / "others.pth").write_text("\n".join(others), encoding="utf-8")
    return scripts


def test_one_wheel_serves_every_python(wheel: Path) -> None:
    assert re.fullmatch(rf"gaussianmri-{gm.__version__}-py3-none-(?!any)\w+\.whl", wheel.name)


def test_the_wheel_has_what_the_checkout_has(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("GaussianMRILib/")]
    csrc = {f"GaussianMRILib/native/{p.relative_to(ROOT).as_posix()}" for p in source_files(ROOT / "csrc")}
    found = [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".npz", ".json", ".txt"}]
    files = {path.relative_to(ROOT).as_posix() for path in found if path.name != "CMakeLists.txt"}
    assert len(files) > 200 and len(csrc) > 10
    assert sorted(names) == sorted(files | csrc | {f"GaussianMRILib/native/{library_name()}"})


def test_it_runs_with_its_prebuilt_kernels(environment: Path, tmp_path: Path) -> None:
    facts = json.loads(run(environment / "gaussianmri", "info", "--json", cwd=tmp_path))
    assert facts["Kernels"] == "native (a prebuilt library is installed)"
    library = Path(facts["Library"])
    assert library.name == library_name() and library.is_relative_to(environment.parent)
    command = [environment / "gaussianmri", "experiment", "phantom", "--folder", "x"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "comes with the source code and is not installed" in done.stderr
    assert facts["GaussianMRI"] == gm.__version__ and "absent" not in facts["Prior network"]
