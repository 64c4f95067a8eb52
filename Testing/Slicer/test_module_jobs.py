"""Work of the three panels goes on beside them: it keeps to its own paths, and to the scene in which it began."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer
from extension_index import MODULES
from mrml_scenes import bright_point, lattice_field
from test_mrml_cinematic import coloured

from GaussianMRILib import GaussianMRIError, mrml
from GaussianMRILib.mrml.isotropic import IsotropicJob
from GaussianMRILib.mrml.jobs import FitJob, Job

ROOT = Path(__file__).resolve().parents[2]
#: In place of PythonSlicer: reports once, waits for the file "go" in the job's folder, and makes the model.
WORKER = """#!{python}
import json, pathlib, shutil, sys, time
job = json.loads(pathlib.Path(sys.argv[-1]).read_text())
print(json.dumps({{"fraction": 0.5, "text": "half of it"}}), flush=True)
while not pathlib.Path(job["folder"], "go").exists():
    time.sleep(0.01)
shutil.copy({balls!r}, job["model"])
"""


def opened(app: Any, name: str) -> Any:
    app.load_module(ROOT / "GaussianMRI" / name / f"{name}.py")
    return app.select(name)


@pytest.fixture
def idle(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The cinematic panel, whose jobs run until there is a file "go" in their folder."""
    if sys.platform == "win32":
        pytest.skip("a script is no program there")
    from GaussianMRILib.cinematic import save_model

    balls = save_model(tmp_path / "balls.ply", coloured({"red": (0.0, 0.0, 20.0)}))
    worker = tmp_path / "PythonSlicer"
    worker.write_text(WORKER.format(python=sys.executable, balls=str(balls)))
    worker.chmod(worker.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(shutil, "which", lambda name: str(worker))
    return opened(app, "GaussianMRICinematic")


@pytest.fixture
def cinematic(app: Any, idle: Any, tmp_path: Path) -> Any:
    """The cinematic panel with a job in the folder `work`."""
    panel, parameters = idle, idle._parameterNode
    parameters.inputVolume, parameters.look = bright_point(app.scene), "CT bone"
    parameters.folder = str(tmp_path / "work")
    panel.ui.applyButton.click()
    app.wait(60, until=lambda: panel.ui.statusLabel.text == "half of it")
    assert panel.ui.progressBar.value == 50 and panel.ui.cancelButton.enabled
    return panel


# ---- a job carries its own paths


def test_the_folder_is_edited_while_its_model_is_made(app: Any, cinematic: Any, tmp_path: Path) -> None:
    parameters, work = cinematic._parameterNode, tmp_path / "work"
    cinematic.ui.folderEdit.currentPath = str(tmp_path / "next")
    (work / "go").touch()
    app.wait(60, until=lambda: not cinematic.jobController.running)
    assert parameters.folder == str(tmp_path / "next")
    assert Path(parameters.modelPath) == work / "model.ply" and cinematic._view is not None
    assert str(work / "model.ply") in cinematic.ui.statusLabel.text and not app.messages


def test_the_model_is_there_when_the_module_is_opened_again(app: Any, cinematic: Any, tmp_path: Path) -> None:
    opened(app, "GaussianMRIGrading")
    (tmp_path / "work" / "go").touch()
    app.wait(60, until=lambda: not cinematic.jobController.running)
    assert cinematic._view is None  # the 3D view is the other module's
    app.select("GaussianMRICinematic")
    assert Path(cinematic._parameterNode.modelPath) == tmp_path / "work" / "model.ply" and cinematic._view is not None


# ---- a job ends with its scene


def nothing_of_it(app: Any, panel: Any) -> bool:
    parameters = panel.logic.getParameterNode()
    shown = panel._view is not None and panel._view.model is not None  # the volume alone may be in view
    return parameters.modelPath == "" and not shown and panel.ui.statusLabel.text == ""


@pytest.mark.parametrize("elsewhere", [False, True], ids=["open", "another module is open"])
def test_a_scene_is_closed_while_its_model_is_made(app: Any, cinematic: Any, tmp_path: Path, elsewhere: bool) -> None:
    job = cinematic.jobController._job
    if elsewhere:
        opened(app, "GaussianMRIGrading")
    app.close_scene()
    assert not cinematic.jobController.running and job._process.poll() is not None
    cinematic.logic.getParameterNode().folder = str(tmp_path / "work")  # the next scene uses it again
    (tmp_path / "work" / "go").touch()
    app.wait(1.0)
    assert nothing_of_it(app, cinematic) and not (tmp_path / "work" / "model.ply").exists() and not app.messages
    app.select("GaussianMRICinematic")
    assert nothing_of_it(app, cinematic) and not cinematic.ui.cancelButton.enabled


def test_another_scene_is_loaded_while_a_model_is_made(app: Any, cinematic: Any, tmp_path: Path) -> None:
    """The scene that is loaded was saved while the job ran, with all that the panel said then."""
    app.save(tmp_path / "scene.mrb")
    app.load(tmp_path / "scene.mrb")
    assert not cinematic.jobController.running
    (tmp_path / "work" / "go").touch()
    app.wait(1.0)
    assert cinematic._parameterNode.folder == str(tmp_path / "work") and nothing_of_it(app, cinematic)


def test_a_scene_that_closes_ends_every_kind_of_job(app: Any) -> None:
    resampling, grading, cinematic = (opened(app, name) for name in MODULES)
    controllers = [
        resampling.fitController,
        *(section._controller for section in resampling.sections if hasattr(section, "_controller")),
        resampling.curveController._volume,
        grading.gradeController,
        cinematic.jobController,
    ]
    assert len(controllers) == 6
    kept: list[Job] = []
    go, jobs = threading.Event(), [Job(lambda job: go.wait(30)) for _ in controllers]
    for controller, job in zip(controllers, jobs, strict=True):
        job.last, job.first_guess = {}, None  # a program's last report, and what a fit shows meanwhile
        controller.begin(job, lambda job: (kept.append(job), ""))
    app.wait(0.5)
    assert all(controller.running for controller in controllers)
    app.close_scene()
    assert not any(controller.running for controller in controllers) and all(job.cancelled for job in jobs)
    go.set()
    app.wait(0.5)
    assert not kept and not app.messages
    assert resampling.ui.statusLabel.text == grading.ui.statusLabel.text == cinematic.ui.statusLabel.text == ""


def close_when(app: Any, begun: Callable[[], bool]) -> Any:
    """A timer that closes the scene once something has begun."""
    import qt

    timer = qt.QTimer()
    timer.setInterval(20)
    timer.connect("timeout()", lambda: begun() and (timer.stop(), app.close_scene()))
    timer.start()
    return timer


@pytest.mark.parametrize("kind", ["fit", "isotropic volume"])
def test_a_scene_is_closed_while_a_console_waits(app: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = opened(app, "GaussianMRIResampling")
    scan = bright_point(app.scene)
    field = mrml.field_to_model(lattice_field(), scene=app.scene, volumes=[scan])
    begun = threading.Event()

    def work(job: Any, result: Any) -> Any:
        begun.set()
        end = time.monotonic() + 2
        while not job.cancelled and time.monotonic() < end:
            time.sleep(0.01)
        return result

    monkeypatch.setattr(FitJob, "_fit", lambda job: work(job, lattice_field()))
    monkeypatch.setattr(IsotropicJob, "_render", lambda job: work(job, np.ones(job.grid.shape, np.float32)))
    timer = close_when(app, begun.is_set)
    with pytest.raises(GaussianMRIError, match=f"The {kind} was cancelled"):
        panel.logic.fit([scan]) if kind == "fit" else panel.logic.isotropicVolume(field, spacing=3.0)
    assert not timer.active and not app.messages
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") and not any(map(mrml.is_field, app.nodes()))


def test_a_console_makes_a_model_in_the_scene_that_asked_for_it(app: Any, idle: Any, tmp_path: Path) -> None:
    volume, work = bright_point(app.scene), tmp_path / "work"
    work.mkdir()
    (work / "go").touch()
    assert idle.logic.makeModel(volume, "CT bone", str(work)) == work / "model.ply" and (work / "model.ply").is_file()
    timer = close_when(app, (tmp_path / "other" / "log.txt").is_file)
    with pytest.raises(GaussianMRIError, match="cancelled"):
        idle.logic.makeModel(volume, "CT bone", str(tmp_path / "other"))
    assert not timer.active and not (tmp_path / "other" / "model.ply").exists()


# ---- what the modules share is found

ALONE = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
from host.application import Application
app = Application(pathlib.Path(sys.argv[2]))
app.load_module(pathlib.Path(sys.argv[3]))
app.select(pathlib.Path(sys.argv[3]).stem)
print("FOUND", *(sys.modules[name].__file__ for name in ("GaussianMRIPanelLib", "GaussianMRILib")), sep="\\n")
app.quit()
assert "GaussianMRIPanelLib" not in sys.modules  # the next application starts anew
"""


@pytest.mark.parametrize("name", MODULES)
def test_a_module_alone_on_the_paths_of_a_checkout_finds_its_own(name: str, tmp_path: Path) -> None:
    """Even where another version is installed: here the library is in the environment, too."""
    module = ROOT / "GaussianMRI" / name / f"{name}.py"
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(ROOT / "Testing" / "Slicer"), str(tmp_path), str(module)],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = [Path(line) for line in done.stdout.split("FOUND\n")[1].splitlines()]
    assert found == [
        ROOT / "GaussianMRI" / "GaussianMRIPanelLib" / "__init__.py", ROOT / "GaussianMRILib" / "__init__.py"
    ]  # fmt: skip
