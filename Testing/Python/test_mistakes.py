"""Usual mistakes of callers: each is one sentence that says what to give, never an error from inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from GaussianMRILib.cli import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("inspect", ""), "An argument is empty"),
        (("inspect", "a", ""), "An argument is empty"),
        (("fit", "a", "-o", ""), "--output is empty"),
        (("fit", "a", "--output="), "--output is empty"),
        (("resample", "f.npz", "--plane", ""), "--plane is empty"),
        (("grade", "measure", "a", "-o", ""), "--output is empty"),
        (("cinematic", "picture", ""), "An argument is empty"),
    ],
)
def test_a_path_that_is_empty_is_not_the_current_folder(arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and said in result.output and "variable" in result.output


def test_texts_may_be_empty(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["cohort", str(tmp_path / "no"), "-o", str(tmp_path / "o"), "--series", ""])
    assert "is empty: give a path" not in result.output
