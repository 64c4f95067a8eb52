"""Options of every test: which are slow, and how those that were left out are told."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

try:
    from hypothesis import settings
except ImportError:  # `make test-gpu` uses an interpreter as it is
    pass
else:
    # The same examples in every run, as with `seeds.FIXED`; `--hypothesis-profile=default` searches for new ones.
    settings.register_profile("fixed", derandomize=True)
    settings.load_profile("fixed")


# A key for Patient IDs that goes with the tests, in place of the one at home of who runs them.
_SCRATCH = tempfile.TemporaryDirectory(prefix="gaussianmri-tests-")
_KEY = Path(_SCRATCH.name) / "patients.key"
_KEY.write_text("of the tests, not a secret" * 2)
os.environ["GAUSSIANMRI_PATIENT_KEY"] = str(_KEY)


@pytest.fixture(autouse=True)
def _logging() -> None:
    """The log of the library as it begins: the command turns it to the terminal for good, where `caplog` does not see it."""
    logger = logging.getLogger("GaussianMRI")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


_LEFT_OUT = pytest.StashKey[int]()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    slow = sum(item.get_closest_marker("slow") is not None for item in items)
    if items:
        stash = items[0].config.stash
        stash[_LEFT_OUT] = stash.get(_LEFT_OUT, 0) + slow


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # of pytest-xdist, which collects in its workers alone
        session.config.workeroutput["left_out"] = session.config.stash.get(_LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Every worker has collected the same tests."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    count = config.stash.get(_LEFT_OUT, 0)
    if count:
        terminalreporter.write_line(
            f"{count} slow test{'s' * (count > 1)} left out. `make test-all` runs every test, "
            "`make test ARGS='-m slow'` the slow ones alone."
        )
