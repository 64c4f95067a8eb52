"""`gaussianmri experiment`, which comes with the source code and is not installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from ..errors import GaussianMRIError


@click.command(
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
    short_help="The experiment on phantoms; with the source code only.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def experiment(context: click.Context, arguments: tuple[str, ...]) -> None:
    root = Path(__file__).resolve().parents[2]
    if not (root / "Testing" / "Experiment" / "command.py").is_file():
        raise GaussianMRIError(
            "The experiment on phantoms comes with the source code and is not installed. Run `python -m GaussianMRILib "
            "experiment phantom --help` in a folder with the source code of GaussianMRI."
        )
    if str(root) not in sys.path:
        sys.path.append(str(root))
    try:
        command = importlib.import_module("Testing.Experiment.command").experiment
    except ModuleNotFoundError as error:
        raise GaussianMRIError(
            f"The experiment needs the Python package {error.name}; install what it needs with `pip install \".[test]\"` in "
            f"{root}."
        ) from error
    command.main(
        list(arguments), prog_name=context.command_path, standalone_mode=False, help_option_names=context.help_option_names
    )
