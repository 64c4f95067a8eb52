"""The pictures of the module in README.md: `python Testing/Slicer/screenshots.py`.

The real panel works on Slicer's scene libraries with the synthetic spine; window and views are drawn offscreen by the
test host, so frames and fonts differ from Slicer's own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from host.application import Application  # noqa: E402

MODULE = ROOT / "GaussianMRI" / "GaussianMRIResampling" / "GaussianMRIResampling.py"
SIZE = (1280, 800)


def take(app: Any, folder: Path) -> None:
    """Fit the synthetic spine through the panel, follow the disc, compare."""
    import slicer

    app.load_module(MODULE)
    app.start()
    axial = app.sample_data.click("SyntheticLumbarSpine")[0]
    panel = app.select(MODULE.stem)
    assert list(panel._parameterNode.inputVolumes) == [axial]
    panel.ui.applyButton.click()
    app.wait(600, until=lambda: bool(panel.previewController.previews))
    for name in ("Green", "Yellow"):
        slicer.app.layoutManager().sliceWidget(name).sliceLogic().FitSliceToAll()
    app.wait(0.5)
    app.screenshot(folder / "resampling.png", size=SIZE)
    panel.ui.compareCheckBox.checked = True
    app.wait(1.0)
    app.screenshot(folder / "side_by_side.png", size=SIZE)
    panel.ui.compareCheckBox.checked = False
    panel.ui.overlaySelector.currentText = "distance"
    for section in (panel.ui.inputsCollapsibleButton, panel.ui.planesCollapsibleButton):
        section.collapsed = True
    app.wait(1.0)
    panel.ui.splineCheckBox.checked = True
    panel.ui.resampleButton.click()
    panel._parameterNode.reference = slicer.util.getNode("Phantom truth")
    app.wait(0.5)
    app.screenshot(folder / "results.png", size=SIZE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "Resources" / "Screenshots")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        app = Application(Path(scratch))
        try:
            take(app, options.folder)
        finally:
            app.quit()


if __name__ == "__main__":
    main()
