"""The user's session on the stand-in, in a process of its own: it ends by quitting during a fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")
pytest.importorskip(
    "PySide6.QtWidgets", reason="needs PySide6_Essentials, which is not installed", exc_type=ImportError
)


@pytest.mark.slow
def test_a_users_session(tmp_path: Path) -> None:
    script = Path(__file__).with_name("user_session.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "begin_to_quit_mid_fit" in done.stdout
    assert len(list(tmp_path.glob("*.png"))) == 23
