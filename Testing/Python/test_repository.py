"""Rules of the repository that a reader of one file cannot see."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from Testing.Benchmarks import report, stored
from Testing.Experiment.command import phantom

ROOT = Path(__file__).resolve().parents[2]
LARGEST_FILE, LARGEST_WEIGHTS = 1_500_000, 2 * 2**20
LONGEST_PYTHON = 500
TEXT = {
    ".py", ".md", ".txt", ".toml", ".yaml", ".yml", ".cff", ".cpp", ".h", ".cuh", ".json", ".cmake", ".ui", ""
}  # fmt: skip


def tracked() -> list[Path]:
    """Files under version control that are in the working tree; in a source archive every file."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if done.returncode:
        skipped = {".venv", "build", "dist", "out", "__pycache__", "results"}
        return [p for p in ROOT.rglob("*") if p.is_file() and not skipped & set(p.relative_to(ROOT).parts)]
    files = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in files if path.is_file()]


FILES = tracked()
LIBRARY = [path for path in FILES if path.suffix == ".py" and path.is_relative_to(ROOT / "GaussianMRILib")]
MODULES = sorted((ROOT / "GaussianMRI").rglob("*.py"))


def test_the_repository_was_found() -> None:
    assert len(LIBRARY) > 40 and ROOT / "README.md" in FILES


def test_no_file_is_large() -> None:
    for path in FILES:
        limit = LARGEST_WEIGHTS if path.suffix in {".npz", ".pt"} else LARGEST_FILE
        assert path.stat().st_size <= limit, f"{path.relative_to(ROOT)} has {path.stat().st_size} bytes"


def test_python_files_can_be_read_in_one_sitting() -> None:
    for path in FILES:
        if path.suffix == ".py":
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines < LONGEST_PYTHON, f"{path.relative_to(ROOT)} has {lines} lines"


def test_no_path_of_a_particular_machine() -> None:
    machine = re.compile(r"(?<![\w.])/(home|root|Users|work|tmp|mnt)/[\w.]+|[A-Z]:\\Users\\")
    for path in FILES:
        if path.suffix in TEXT and path.name != "test_repository.py":
            found = machine.search(path.read_text(encoding="utf-8", errors="replace"))
            assert found is None, f"{path.relative_to(ROOT)} names {found[0]!r}"


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Top-level names of the packages that the nodes import."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_the_library_imports_neither_qt_nor_slicer() -> None:
    forbidden = {"qt", "ctk", "slicer", "PySide6", "PyQt5", "PyQt6", "PythonQt", "vtk", "torchvision", "cv2"}
    for path in LIBRARY:
        allowed = {"slicer", "vtk"} if "mrml" in path.relative_to(ROOT).parts else set()
        found = imported(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) & (forbidden - allowed)
        assert not found, f"{path.relative_to(ROOT)} imports {', '.join(found)}"


def test_the_library_logs_and_does_not_print() -> None:
    for path in LIBRARY:
        if path.relative_to(ROOT).parts[1] == "cli":
            continue
        source = path.read_text(encoding="utf-8")
        if 'if __name__ == "__main__"' in source:  # a program as well
            continue
        for node in ast.walk(ast.parse(source)):
            prints = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            assert not prints, f"{path.relative_to(ROOT)}:{node.lineno} prints"


def test_importing_the_library_is_light() -> None:
    code = (
        "import sys, GaussianMRILib; heavy = {'torch', 'scipy', 'SimpleITK', 'pydicom', 'click', 'tqdm'}"
        "; sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"import GaussianMRILib imports {done.stderr}"


def run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when a file is imported: all that are not in a function."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield node
            yield from run_at_import(node)


def test_modules_import_nothing_when_slicer_starts() -> None:
    """Slicer imports every module at its start: no package may be needed then, and no file may be slow."""
    allowed = set(sys.stdlib_module_names) | {"ctk", "qt", "slicer", "vtk"}
    assert "GaussianMRIResampling.py" in {path.name for path in MODULES}
    for path in MODULES:
        names = imported(run_at_import(ast.parse(path.read_text(encoding="utf-8")))) - allowed
        found = [name for name in names if not name.startswith("GaussianMRI")]
        assert not found, f"{path.relative_to(ROOT)} imports {', '.join(found)} at file scope"


def test_every_public_name_resolves() -> None:
    import GaussianMRILib as gm

    for name in gm.__all__:
        assert getattr(gm, name) is not None
    assert {"read_stacks", "SliceStack", "fit", "Fitter", "ImagePlane", "GaussianField"} <= set(gm.__all__)
    with pytest.raises(AttributeError, match="transmogrify"):
        gm.transmogrify  # noqa: B018


def test_versions_agree() -> None:
    import GaussianMRILib as gm

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {gm.__version__}" in citation
    assert f'version = "{gm.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"(GaussianMRI VERSION {gm.__version__} " in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert f"## {gm.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "Apache License" in (ROOT / "LICENSE.txt").read_text(encoding="utf-8")[:200]


def test_every_dependency_has_an_oldest_version() -> None:
    """`make test-oldest` installs what it finds here: a dependency without a bound would come in its newest version."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(r"^(?:dependencies|lpips|cuda|denoise|grading|sr|test) = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    assert len(lists) == 7
    bounds = dict(re.findall(r'"([\w-]+)(?:\[\w+\])?[>=]=([\d.]+)"', "".join(lists)))
    assert bounds.keys() == set(re.findall(r'"([\w-]+)', "".join(lists))) and len(bounds) > 15
    slicer = (ROOT / "GaussianMRILib" / "mrml" / "requirements.txt").read_text(encoding="utf-8")
    for name, version in re.findall(r"^([\w-]+)(.*)$", slicer, re.MULTILINE):
        assert version == f">={bounds[name]}", name
    oldest = (ROOT / "GaussianMRILib" / "mrml" / "dependencies.py").read_text(encoding="utf-8")
    assert f"OLDEST_TORCH = ({bounds['torch'].replace('.', ', ')})" in oldest


def test_report_fills_the_pages() -> None:
    score = {"psnr": 30.0, "ssim": 0.9, "lpips": None}
    rows = [
        {"method": "cubic", "thin": score, "thick": score, "prepare_s": 0.5, "plane_s": 0.01},
        {"method": "fast", "thin": score | {"psnr": 31.234}, "thick": score, "prepare_s": 4, "plane_s": 0.1},
        {"method": "network", "not_available": "no weights"},
    ]
    summary = json.loads(json.dumps({"quality": {"single": {"scan": rows}}}))
    pages = report.read_pages()
    filled, missing = report.fill(pages, summary)
    assert [name for name in pages if filled[name] != pages[name]] == ["results.md"]
    text = filled["results.md"]
    assert "| fast | **31.23** | **0.900** |" in text and "| cubic | 30.00 |" in text
    assert "Not measured: network." in text and "LPIPS |" not in text.split("bench:quality")[1]
    assert set(missing) == set(report.TABLES) - {"quality"}
    assert report.fill(filled, summary)[0] == filled
    half = text.index("<!-- bench:fit -->")
    apart, _ = report.fill({"first.md": text[:half], "second.md": text[half:]}, summary)
    assert apart["first.md"] + apart["second.md"] == text
    for wrong in ({}, pages | {"copy.md": text}):
        with pytest.raises(ValueError, match="blocks bench:quality, expected one"):
            report.fill(wrong, summary)


def test_each_table_says_when_and_where_it_was_measured() -> None:
    here = {"processor": "P1", "cores": 2, "system": "Linux", "python": "3.11", "torch": "2.13"}
    machines = {
        "grading": {**here, "date": "2026-12-01", "instruction_sets": "avx2 in the kernels"},
        "grading_study": {**here, "stored": "2026-11-22"},
        "quality.recipe": {**here, "date": "2026-12-02"},
    }
    where = "P1, 2 cores, Linux, Python 3.11, torch 2.13; by"
    assert report.measured({"machines": machines}, ("grading", "grading_study")).splitlines() == [
        f"*grading: Measured 2026-12-01 on {where.replace('cores', 'cores (avx2 in the kernels)')} `make bench`.*",
        "",
        f"*grading_study: Stored 2026-11-22; the machine then: {where} `make bench`.*",
    ]
    command = "python -m Testing.Benchmarks.quality --only recipe"
    assert report.measured({"machines": machines}, ("quality.recipe",)) == f"*Measured 2026-12-02 on {where} `{command}`.*"
    assert report.measured({}, ("fit",)) == ""
    summary = json.loads(report.SUMMARY.read_text(encoding="utf-8"))
    sources = {source for _, of in report.TABLES.values() for source in of}
    assert set(summary["machines"]) == sources and summary["machines"] == stored.machines()
    pages = report.read_pages()
    assert report.fill(pages, summary)[0] == pages  # nothing was typed by hand


def test_stored_results_note_the_machine_of_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "RESULTS", tmp_path.resolve())
    monkeypatch.setattr(stored, "machine", lambda: {"date": "today"})
    (tmp_path / "machines.json").write_text('{"quality.pair": {"date": "then"}, "fit": {"date": "then"}}')
    stored.store(tmp_path / "quality.json", {"pair": 1, "single": 2}, ["single"])
    stored.store(tmp_path / "fit.json", [3])
    stored.store(tmp_path / "elsewhere" / "lattice.json", [4])
    assert json.loads((tmp_path / "elsewhere" / "lattice.json").read_text()) == [4]
    today, then = {"date": "today"}, {"date": "then"}
    assert stored.machines() == {"fit": today, "quality.pair": then, "quality.single": today}


def test_what_is_said_of_the_experiment_is_what_was_measured() -> None:
    summary = json.loads(report.SUMMARY.read_text(encoding="utf-8"))
    text, trainings = report.experiment(summary), len(summary["experiment"]["training"])
    limited = text.count("(limit)")
    assert f"{trainings - limited} of {trainings} trainings ended by themselves, {limited} at the limit" in text
    hours = round(sum(summary["experiment"]["seconds"].values()) / 3600)
    (said,) = [option.help for option in phantom.params if option.name == "reduced"]
    assert {2: "About two hours"}[hours] in said


def test_report_has_the_seeds_of_the_recipe_beside_each_other() -> None:
    rows = [
        {"recipe": method, "seed": seed, "thin": {"psnr": 21 + seed / 4, "ssim": 0.75}, "energy": 0.5, **more}
        for method, more in (("voxel", {}), ("paper", {"gaussians": 90_000, "without_slice": 1234}))
        for seed in (1, 0)
    ]
    text = report.recipe({"quality": {"recipe": {"scan": rows}}})
    assert "| voxel | 21.00 / 21.25 | 0.750 / 0.750 | 0.50 / 0.50 |  |  |" in text
    assert "| paper | 21.00 / 21.25 | 0.750 / 0.750 | 0.50 / 0.50 | 90,000 / 90,000 | 1,234 / 1,234 |" in text


def test_report_pairs_the_frames_of_one_seed() -> None:
    def score(*psnr: float, **more: object) -> dict[str, object]:
        measures = {"covered_psnr": psnr, "ssim": (0.9, 0.8), "band_ssim": (0.5, None), "leak": (None, None)}
        return {"psnr": psnr, "psnr_mean": sum(psnr) / 2, **measures, "splats": 1999, **more}

    runs = [
        {"lt": score(20.0, 30.0), "aam+lt": score(21.0, 29.5)},
        {"lt": score(22.0, 30.0), "aam+lt": score(22.5, 31.0, splats=1997)},
    ]
    results = {
        "setting": {"size": 64, "train": 320, "test": 3, "splats": 2000, "iterations": 4000},
        "titles": {"lt": "LT", "aam+lt": "ClipGS"},
        "validation": [{"rate": 1e-3, "psnr": 29.468}],
        "tables": [{"title": "Head", "look": "CT", "planes": "axial", "runs": runs}],
    }
    text = report.cinematic_clipgs({"cinematic_clipgs": json.loads(json.dumps(results))})
    assert "planes along z, 2 seeds, 2 of 3 held-out frames counted" in text
    # (1 - .5) / 2 and (.5 + 1) / 2 dB
    assert "| +0.50 (+0.25 to +0.75), higher in 3 of 4 | 1,998 |" in text
    assert "| ClipGS | **26.00 ± 4.98** | 26.00 ± 4.98 | 0.8500 ± 0.0577 | 0.500 ± 0.000 | not available |" in text
    assert "| LT | 25.50 ±" in text and "0.001: 29.47 dB" in text


def test_report_says_what_a_disturbed_stack_costs() -> None:
    score = {"psnr": 30.0, "ssim": 0.9, "lpips": None}
    found = {"given_mm": 3.04, "left_mm": 0.26, "fused_by": "half"}
    lost = {"thin": -0.2, "thick": -0.31}
    rows = [
        {"method": "all", "thin": score, "thick": score, "against": {"none": lost, "noise x 2": lost}, "found": found},
        {"method": "axial alone", "thin": score, "thick": score, "against": {"none": {"thin": -2.0, "thick": -1.5}}},
        {"method": "gain 2", "not_available": "no memory"},
    ]
    filled, missing = report.fill(report.read_pages(), {"quality": {"disturbed": {"scan": rows}}})
    text = filled["results.md"]
    scores = "30.00 | 0.900 | 30.00 | 0.900"
    assert f"| all | {scores} | -0.20 / -0.31 | -0.20 / -0.31 | 3.0 to 0.26 mm | half |" in text
    assert f"| axial alone | {scores} | -2.00 / -1.50 |  |  |  |" in text
    assert "| gain 2 | not measured |" in text
    assert set(missing) == set(report.TABLES) - {"disturbed"}


def test_texts_of_the_panels_are_where_slicer_looks_for_what_is_translated() -> None:
    """Its lupdate_preprocess.py takes, by this pattern, literals that stand in `_()` themselves."""
    pattern = re.compile(r"[^_]_\((\s*?\".+?\"\s*?)\)", re.DOTALL)
    found, lost = 0, []
    for path in sorted((ROOT / "GaussianMRI").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        taken = {ast.literal_eval(f"({text})") for text in pattern.findall(source)}
        for call in ast.walk(ast.parse(source)):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "_"):
                continue
            found += 1
            text = call.args[0].value if len(call.args) == 1 and isinstance(call.args[0], ast.Constant) else None
            if text is None or text not in taken:
                lost.append(f"{path.name}, line {call.lineno}")
    assert found > 100 and not lost, lost
