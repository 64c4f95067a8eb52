"""`gaussianmri cinematic dataset`."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from ..durations import duration
from .app import advance, announce, common_options, load_stack, one_stack_option, progress_bar
from .cinematic_picture import AUTOMATIC, body_option, modality_of


@click.command(short_help="Path-trace images of a volume, cut by planes.")
@click.argument("volume", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="FOLDER", required=True, type=click.Path(path_type=Path),
    help="Folder of the data set; the same command goes on with an unfinished one.",
)  # fmt: skip
@one_stack_option
@click.option(
    "--look", "--preset", "look", default=AUTOMATIC, show_default=True,
    help="Name of a look, a Slicer volume property (.vp, .vp.json), or a JSON file of looks. auto: CT bone for a CT, "
    "MR head for an MR. --preset is its old name.",
)  # fmt: skip
@body_option
@click.option(
    "--train", type=click.IntRange(min=1), default=None, help="Training frames.  [default: 300; 1000 on a GPU]"
)
@click.option("--test", type=click.IntRange(min=0), default=None, help="Held-out frames.  [default: 30; 100 on a GPU]")
@click.option(
    "--size", type=click.IntRange(16, 8192), default=None, help="Pixels a side.  [default: 256; 512 on a GPU]"
)
@click.option("--samples", type=click.IntRange(min=1), default=32, show_default=True, help="Paths per pixel.")
@click.option(
    "--test-samples", type=click.IntRange(min=1), default=256, show_default=True,
    help="Paths per pixel of held-out frames.",
)  # fmt: skip
@click.option(
    "--planes", type=click.Choice(["any", "axial"]), default="any", show_default=True,
    help="Directions of the cutting planes.",
)  # fmt: skip
@click.option("--denoise/--no-denoise", default=False, help="Denoise training frames (needs pyoidn).")
@click.option(
    "--roi", nargs=6, type=float, default=None, metavar="R0 R1 A0 A1 S0 S1",
    help="Show only this box, RAS millimetres.",
)  # fmt: skip
@click.option(
    "--zoom", default=1.3, show_default=True, help="Of the farthest views; 1 fits the sphere round the volume in the image."
)
@click.option(
    "--nearest", default=2.6, show_default=True, help="Zoom of the nearest views; as --zoom: all have one distance."
)
@click.option(
    "--uncut", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True,
    help="Share of the training frames that show the whole volume.",
)  # fmt: skip
@click.option(
    "--background", nargs=3, type=click.FloatRange(0, 1), default=(0.0, 0.0, 0.0), metavar="R G B",
    help="Colour behind the volume, 0 to 1.  [default: black]",
)  # fmt: skip
@click.option("--format", "kind", type=click.Choice(["png", "npy"]), default="png", show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def dataset(
    volume: Path,
    output: Path,
    number: int | None,
    look: str,
    body_only: bool,
    train: int | None,
    test: int | None,
    size: int | None,
    samples: int,
    test_samples: int,
    planes: str,
    denoise: bool,
    roi: tuple[float, ...] | None,
    zoom: float,
    nearest: float,
    uncut: float,
    background: tuple[float, float, float],
    kind: str,
    seed: int,
    device: str,
) -> None:
    """Path-trace pictures of VOLUME (NIfTI, NRRD, MetaImage or DICOM) from random views, cut by random planes.

    \b
    Examples:
      gaussianmri cinematic dataset head.nii.gz -o head/
      gaussianmri cinematic dataset head.nii.gz --look "MR soft tissue" --size 256 --train 300 -o head/
    """
    from ..cinematic.body import keep_body
    from ..cinematic.dataset import make_dataset, regular_volume
    from ..cinematic.dataset_views import DatasetOptions
    from ..cinematic.looks import default_look, find_look, modality_warning
    from ..device import choose_device

    target = choose_device(device)
    sizes = {} if target.type == "cpu" else {"train": 1000, "test": 100, "size": 512}
    given = {"train": train, "test": test, "size": size}
    sizes.update({name: value for name, value in given.items() if value is not None})
    options = DatasetOptions(
        **sizes, samples=samples, test_samples=test_samples, planes=planes, denoise=denoise, zoom=zoom, nearest=nearest,
        uncut=uncut, background=background, format=kind, seed=seed,
    )  # fmt: skip
    stack = load_stack(volume, number)
    values, matrix = regular_volume(stack)
    chosen = find_look(default_look(values, modality_of(stack)) if look == AUTOMATIC else look)
    warning = modality_warning(chosen, values, modality_of(stack))
    if warning:
        logging.getLogger("GaussianMRI").warning(warning)
    if body_only:
        values = keep_body(values, matrix, modality=modality_of(stack))
    box = None if roi is None else (roi[0::2], roi[1::2])

    def announced(seconds: float, _there: int) -> None:
        if seconds > 60:
            announce(f"This takes about {duration(seconds)}. Ctrl-C stops it, and the same command goes on.")

    with progress_bar("Rendering") as bar:
        made = make_dataset(
            output, values, matrix, look=chosen, options=options, roi=box, device=target, estimated=announced,
            progress=lambda done, total, _path: advance(bar, done / total),
        )  # fmt: skip
    assert made is not None
    click.echo(f"Stack         {stack.name}")
    click.echo(f"Look          {chosen.name}")
    click.echo(f"Frames        {len(made.train)} for training, {len(made.test)} held out")
    click.echo(f"Images        {options.size} x {options.size} pixels, {samples} and {test_samples} samples")
    click.echo(f"Written       {output}")
