"""What CTest calls in place of Slicer: starts the tests' host, loads the modules of a folder, runs a line of Python."""

from __future__ import annotations

import argparse
import sys
import tempfile
import types
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Slicer"))

import slicer
from host.application import Application


def run_unit_test(folders: list[str], name: str) -> None:
    """As `slicer.testing.runUnitTest`."""
    sys.path.extend(folders)
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromName(name))
    if not result.testsRun or not result.wasSuccessful():
        raise SystemExit(f"{name} failed or has no tests")


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--no-splash", action="store_true")
    parser.add_argument("--testing", action="store_true")
    parser.add_argument("--additional-module-paths", type=Path, nargs="+", default=[])
    parser.add_argument("--python-code", required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = Application(Path(folder))
        slicer.testing = types.SimpleNamespace(runUnitTest=run_unit_test)
        sys.modules["slicer.testing"] = slicer.testing
        for file in (file for path in given.additional_module_paths for file in sorted(path.glob("*.py"))):
            app.load_module(file)
            print("Loaded", file)
        exec(given.python_code, {})
        print("What the panels share is", sys.modules["GaussianMRIPanelLib"].__file__)
        print("The library is", sys.modules["GaussianMRILib"].__file__)
        app.quit()


main()
