"""The `gaussianmri` command: what the library does, from a terminal."""

from __future__ import annotations

import click

from ..version import __version__
from .app import CommandLine
from .cinematic import cinematic
from .cohort import cohort
from .demonstrate import demo
from .describe import info, inspect
from .evaluate import evaluate
from .experiment import experiment
from .fit import fit
from .grade import grade
from .labels import labels
from .resample import resample

__all__ = ["main"]


@click.group(
    cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="gaussianmri")
def main() -> None:
    """Fit 3D Gaussians to thick-slice MRI and resample it on any plane.

    \b
    A folder of DICOM to an oblique plane, in two steps:
      gaussianmri fit dicom/ -o knee.npz
      gaussianmri resample knee.npz --plane plane.mrk.json -o oblique.nrrd --png oblique.png

    \b
    Exit status:
      0    done
      1    a problem that the message says how to solve; no output was written
      2    wrong usage
      130  cancelled with Ctrl-C; nothing was left half-written

    Research use only, not for diagnosis.
    """


for command in (info, inspect, fit, resample, labels, evaluate, cinematic, cohort, grade, experiment, demo):
    main.add_command(command)
