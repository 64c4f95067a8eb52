"""The checklist of Slicer's extension index is met, and would tell where it is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from Testing.Slicer.extension_index import CHECKS, ROOT, check_start

QUICK = [name for name in CHECKS if CHECKS[name] is not check_start]


@pytest.mark.parametrize("name", QUICK)
def test_this_checkout_meets(name: str) -> None:
    assert list(CHECKS[name](ROOT)) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the checks read, to be spoiled."""
    for name in ("CMakeLists.txt", "README.md", "LICENSE.txt", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("Resources", "docs", "GaussianMRI", "GaussianMRILib"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return tmp_path


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / name).read_text(encoding="utf-8")
        assert old in text
        (root / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


def with_entry(**values: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "Resources" / "GaussianMRI.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")

    return change


MODULE = "GaussianMRI/GaussianMRIGrading/GaussianMRIGrading.py"


@pytest.mark.parametrize(
    ("check", "spoil", "fault"),
    [
        ("entry of the index", with_entry(tier="1"), "tier"),
        ("entry of the index", with_entry(license="MIT"), "license"),
        ("entry of the index", with_entry(scm_url="https://github.com/a/GaussianMRI"), "not SlicerGaussianMRI"),
        ("entry of the index", with_entry(build_dependencies=[]), "dependencies differ"),
        ("entry of the index", replaced("CMakeLists.txt", '"Filtering"', '"Spine"'), "categories differ"),
        (
            "metadata of the extension",
            replaced("GaussianMRI/CMakeLists.txt", "add_subdirectory(GaussianMRIPanelLib)\n", ""),
            "the extension is built of",
        ),
        ("metadata of the extension", replaced("CMakeLists.txt", "grades stenosis", "helps with"), "Grading"),
        ("metadata of the extension", replaced("CMakeLists.txt", "no patents", "nothing"), "nothing of patents"),
        ("metadata of the extension", replaced("CMakeLists.txt", '"GaussianMRI developers"', "${WHO}"), "CONTRIBUTORS"),
        ("icon and screenshots", replaced("CMakeLists.txt", "grading.png", "grades.png"), "grades.png is no picture"),
        ("icon and screenshots", replaced("CMakeLists.txt", "/GaussianMRI.png", "/Screenshots/demo.png"), "128 x 128"),
        ("licence", replaced("LICENSE.txt", "Apache License", "Licence"), "LICENSE.txt"),
        ("README", replaced("README.md", "## Tutorial", "## Steps"), "a tutorial"),
        ("README", replaced("README.md", "Resources/Screenshots/grading.png", "grading.png"), "no file"),
        ("README", replaced("README.md", "module **Gaussian MRI Grading**", "**Grading**"), "Gaussian MRI Grading"),
        ("README", replaced("README.md", "arxiv.org/abs", "example.org"), "a publication"),
        (QUICK[5], replaced(MODULE, "\nimport ", "\nimport torch\nimport ", ), "imports torch at file scope"),
        (QUICK[5], replaced("GaussianMRILib/errors.py", '"""\n', '"""\nfrom urllib import request\n'), "sent or fetched"),
    ],
)  # fmt: skip
def test_a_fault_is_found(copy: Path, check: str, spoil: Callable[[Path], None], fault: str) -> None:
    spoil(copy)
    found = list(CHECKS[check](copy))
    assert any(fault in line for line in found), found


def test_the_modules_start_without_network_and_programs() -> None:
    pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
    pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6_Essentials", exc_type=ImportError)
    assert list(check_start(ROOT)) == []


@pytest.mark.slow
def test_a_module_that_looks_for_news_at_start_up_is_found(copy: Path) -> None:
    pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
    pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6_Essentials", exc_type=ImportError)
    news = "\nimport subprocess, sys\nsubprocess.run([sys.executable, '--version'])\nimport scipy\nimport "
    replaced(MODULE, "\nimport ", news)(copy)
    found = " ".join(check_start(copy))
    assert "subprocess.Popen" in found and "import of scipy" in found
