"""What the Resampling module shows while a fit goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)

import slicer
from module_panel import fitted, nodes_of_previews, previews, quick
from mrml_scenes import bright_point

from GaussianMRILib import GaussianMRIError, mrml
from GaussianMRILib.fitting.fast import FastFit
from GaussianMRILib.mrml.scene import as_array
from GaussianMRILib.mrml.views import composite_of


class HeldFit:
    """Fits wait, once they have their first guess, until they are let go on, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.error = threading.Event(), None
        run = FastFit.run

        def held(fit: FastFit) -> Iterator[Any]:
            while not self.go.wait(0.01):
                fit.problem.check()
            if self.error is not None:
                raise self.error
            yield from run(fit)

        monkeypatch.setattr(FastFit, "run", held)


@pytest.fixture
def fit(panel: Any, monkeypatch: pytest.MonkeyPatch) -> HeldFit:
    quick(panel, monkeypatch)
    as_quick = panel.logic.fitter
    monkeypatch.setattr(panel.logic, "fitter", lambda volumes, **options: as_quick(volumes, blend=0.8, **options))
    return HeldFit(monkeypatch)


def begin(app: Any, panel: Any) -> Any:
    """Press Fit and wait for the guess; it."""
    panel.ui.applyButton.click()
    app.wait(30, until=lambda: "First guess" in panel.ui.previewLabel.text)
    assert panel.fitController.running and "First guess" in panel.ui.previewLabel.text, app.messages
    return panel.fitController._job.first_guess


def end(app: Any, panel: Any, fit: HeldFit) -> None:
    fit.go.set()
    app.wait(60, until=lambda: not panel.fitController.running)


def red() -> Any:
    return slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")


def assert_shows(panel: Any, field: Any) -> None:
    (preview,) = previews(panel)
    image = field.render(mrml.plane_from_node(panel._parameterNode.plane, spacing=preview.facts.spacing))
    shown, inside = slicer.util.arrayFromVolume(preview.volume)[0], np.isfinite(image)
    assert np.ptp(image[inside]) > 20
    np.testing.assert_allclose(shown[inside], image[inside], rtol=1e-4, atol=0.05)


def test_the_guess_is_shown_at_once_and_the_fit_takes_its_place(app: Any, panel: Any, scan: Any, fit: HeldFit) -> None:
    guess = begin(app, panel)
    assert_shows(panel, guess)
    (preview,) = previews(panel)
    volume, view = preview.volume, red()
    assert composite_of(view).GetBackgroundVolumeID() == volume.GetID() and "First guess" in volume.GetName()
    assert volume.GetHideFromEditors() and not volume.GetSaveWithScene()
    assert panel._parameterNode.field is None and not any(mrml.is_field(node) for node in app.nodes())
    assert not panel.ui.resampleButton.enabled and not panel.ui.reportButton.enabled
    panel._parameterNode.plane.SetCenter(*np.add(panel._parameterNode.plane.GetCenter(), [0.5, 1, 1]))
    app.wait(0.1)
    assert_shows(panel, guess)
    view.SetFieldOfView(31.0, 29.0, 1.0)  # the user zooms in
    end(app, panel, fit)
    field = mrml.field_from_model(panel._parameterNode.field)
    assert previews(panel) == [preview] and preview.volume is volume and "First guess" not in volume.GetName()
    assert tuple(view.GetFieldOfView())[:2] == (31.0, 29.0)
    assert "First guess" not in panel.ui.previewLabel.text and "outside the scan" in panel.ui.previewLabel.text
    assert_shows(panel, field)
    plane = mrml.plane_from_node(panel._parameterNode.plane, spacing=0.7)
    assert np.nanmax(np.abs(field.render(plane) - guess.render(plane))) > 1  # another picture
    assert not app.messages


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_without_a_fit_the_view_is_given_back(app: Any, panel: Any, scan: Any, fit: HeldFit, how: str) -> None:
    view = red()
    composite_of(view).SetBackgroundVolumeID(scan.GetID())
    before = app.ids(), as_array(view.GetSliceToRAS()), tuple(view.GetFieldOfView())
    begin(app, panel)
    if how == "cancelled":
        panel.ui.cancelButton.click()
    else:
        fit.error = GaussianMRIError("No luck.")
        end(app, panel, fit)
        assert app.messages.pop().text.endswith("No luck.")
    app.wait(0.1)
    assert not previews(panel) and not nodes_of_previews() and panel.ui.previewLabel.text == ""
    assert composite_of(view).GetBackgroundVolumeID() == scan.GetID()
    np.testing.assert_array_equal(as_array(view.GetSliceToRAS()), before[1])
    assert tuple(view.GetFieldOfView()) == before[2] and panel._parameterNode.plane is None
    assert app.ids() == before[0]


def test_an_earlier_fit_of_the_same_volumes_stays_in_view(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = fitted(app, panel, monkeypatch)
    field, fit = mrml.field_from_model(node), HeldFit(monkeypatch)
    (preview,) = previews(panel)
    panel.ui.applyButton.click()
    app.wait(30, until=lambda: panel.fitController._job.first_guess is not None)
    app.wait(0.2)
    assert previews(panel) == [preview] and "First guess" not in panel.ui.previewLabel.text
    assert_shows(panel, field)
    end(app, panel, fit)
    assert previews(panel) == [preview] and panel._parameterNode.field is node


def test_a_chosen_field_of_other_volumes_gives_way_until_another_one_is_chosen(
    app: Any, panel: Any, scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fitted(app, panel, monkeypatch)
    fit = HeldFit(monkeypatch)
    panel._parameterNode.inputVolumes = [bright_point(slicer.mrmlScene, name="other")]
    plane = panel._parameterNode.plane
    assert_shows(panel, begin(app, panel))
    panel._parameterNode.field = None
    app.wait(0.1)
    assert not previews(panel)
    panel._parameterNode.field = first
    app.wait(0.1)
    panel.ui.cancelButton.click()
    app.wait(0.1)
    assert_shows(panel, mrml.field_from_model(first))
    assert panel._parameterNode.plane is plane and not fit.go.is_set()


def test_side_by_side_and_other_modules_wait_for_the_fit(app: Any, panel: Any, scan: Any, fit: HeldFit) -> None:
    panel._parameterNode.compare = True
    guess = begin(app, panel)
    assert_shows(panel, guess)  # in one view
    representation = slicer.modules.gaussianmriresampling.widgetRepresentation()
    representation.exit()
    assert not nodes_of_previews()
    representation.enter()
    assert_shows(panel, guess)
    end(app, panel, fit)
    app.wait(0.2)
    assert len(previews(panel)) == 3 and "First guess" not in panel.ui.previewLabel.text


def test_nothing_of_it_is_left_of_a_closed_or_saved_scene(
    app: Any, panel: Any, scan: Any, fit: HeldFit, tmp_path: Any
) -> None:
    begin(app, panel)
    app.save(tmp_path / "scene.mrb")
    app.close_scene()
    app.wait(0.1)
    assert not panel.fitController.running and not nodes_of_previews() and not previews(panel)
    app.load(tmp_path / "scene.mrb")
    app.wait(0.1)
    assert not nodes_of_previews() and not any(mrml.is_field(node) for node in app.nodes())
    assert panel._parameterNode.plane is not None and not previews(panel)


def test_no_list_offers_the_images_of_previews(app: Any, panel: Any, scan: Any, fit: HeldFit) -> None:
    """Lists of volumes, and of the bars over the views; a list that lets one go would choose its neighbour for the view."""
    bar = slicer.app.layoutManager().sliceWidget("Red").sliceController()
    lists = [
        panel.ui.inputSelector, panel.ui.outputSelector, panel.ui.referenceSelector, panel.ui.labelsOntoSelector,
        bar.BackgroundComboBox, bar.ForegroundComboBox,
    ]  # fmt: skip
    composite_of(red()).SetBackgroundVolumeID(scan.GetID())
    begin(app, panel)
    end(app, panel, fit)
    (preview,) = previews(panel)
    assert composite_of(red()).GetBackgroundVolumeID() == preview.volume.GetID() and panel._parameterNode.preview
    panel._parameterNode.overlay = type(panel._parameterNode.overlay)["distance"]
    app.process()
    panel._parameterNode.compare = True
    app.process()
    assert len(nodes_of_previews()) == 6
    for nodes in (each.nodes() for each in lists):
        assert [node.GetName() for node in nodes] == [scan.GetName()]
