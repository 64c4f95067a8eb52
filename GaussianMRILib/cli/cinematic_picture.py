"""`gaussianmri cinematic picture`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from ..cinematic.clip import CLIP_TYPES, ClipPlane, Roi
from .app import (
    advance,
    check_suffix,
    check_writable,
    common_options,
    load_stack,
    one_stack_option,
    output_option,
    progress_bar,
)

if TYPE_CHECKING:
    from ..stacks import SliceStack

AUTOMATIC = "auto"


body_option = click.option(
    "--body-only",
    is_flag=True,
    help="Leave out table, headrest and cables: keep the largest connected body, and others at least a third as large.",
)


def modality_of(stack: SliceStack) -> str:
    """DICOM's modality, "" where the file does not say."""
    return str((stack.source.get("contrast") or {}).get("modality") or "")


def clip_planes(files: Sequence[Path], clips: Sequence[tuple[float, float, float, float]]) -> list[ClipPlane]:
    """The planes of --plane and --clip."""
    return [*map(ClipPlane.from_markups, files), *(ClipPlane(np.array(clip[:3]), clip[3]) for clip in clips)]


@click.command(short_help="A path-traced picture of a volume, at once.")
@click.argument("volume", type=click.Path(path_type=Path))
@output_option("PICTURE.png")
@one_stack_option
@click.option(
    "--look", default=AUTOMATIC, show_default=True,
    help="Name of a look, a Slicer volume property (.vp, .vp.json), or a JSON file of looks. auto: CT bone for a CT, "
    "MR head for an MR.",
)  # fmt: skip
@body_option
@click.option(
    "--plane", "plane_files", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="Cut by the first plane of this Slicer markups file (.mrk.json); the side its normal points to goes. Again for "
    "more planes.",
)  # fmt: skip
@click.option(
    "--clip", "clips", multiple=True, nargs=4, type=float, metavar="R A S OFFSET",
    help="Cut by the plane with this normal (RAS) and offset along it in mm; again for more planes.",
)  # fmt: skip
@click.option(
    "--clip-type", type=click.Choice(CLIP_TYPES), default=CLIP_TYPES[0], show_default=True,
    help="How several planes cut, in the words of Slicer's Clipping. union: what any plane cuts away is gone. intersection: "
    "only what all of them cut away is gone.",
)  # fmt: skip
@click.option(
    "--roi", nargs=6, type=float, default=None, metavar="R0 R1 A0 A1 S0 S1",
    help="Show only this box, RAS millimetres.",
)  # fmt: skip
@click.option(
    "--roi-file", type=click.Path(path_type=Path), metavar="FILE",
    help="Show only the first ROI box of this Slicer markups file (.mrk.json), which may be turned.",
)  # fmt: skip
@click.option("--azimuth", default=30.0, show_default=True, help="Degrees from the front to the patient's left.")
@click.option("--elevation", default=15.0, show_default=True, help="Degrees above the axial plane.")
@click.option(
    "--zoom", type=click.FloatRange(0.01, 100), default=None,
    help="1 fits the sphere round the volume in the picture.  [default: what is seen just fits; 1.3 at most in a square]",
)  # fmt: skip
@click.option(
    "--fov", type=click.FloatRange(1, 120), default=30.0, show_default=True, help="Vertical field of view, degrees."
)
@click.option(
    "--size", default=(512, 512), show_default=True, nargs=2, type=click.IntRange(1, 16384), metavar="W H", help="Pixels."
)
@click.option(
    "--samples", type=click.IntRange(1, 65536), default=64, show_default=True,
    help="Paths per pixel; four times as many halve the noise.",
)  # fmt: skip
@click.option(
    "--denoise/--no-denoise", "denoised", default=None,
    help="Take the noise away (needs pyoidn).  [default: where pyoidn is installed]",
)  # fmt: skip
@click.option(
    "--background", nargs=3, type=click.FloatRange(0, 1), default=(0.0, 0.0, 0.0), metavar="R G B",
    help="Colour behind the volume, 0 to 1.  [default: black]",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def picture(
    volume: Path,
    output: Path,
    number: int | None,
    look: str,
    body_only: bool,
    plane_files: tuple[Path, ...],
    clips: tuple[tuple[float, float, float, float], ...],
    clip_type: str,
    roi: tuple[float, ...] | None,
    roi_file: Path | None,
    azimuth: float,
    elevation: float,
    zoom: float | None,
    fov: float,
    size: tuple[int, int],
    samples: int,
    denoised: bool | None,
    background: tuple[float, float, float],
    seed: int,
    device: str,
) -> None:
    """Path-trace one picture of VOLUME (NIfTI, NRRD, MetaImage or DICOM). Nothing is trained. Not for diagnosis.

    \b
    Examples:
      gaussianmri cinematic picture head.nii.gz -o head.png
      gaussianmri cinematic picture head.nii.gz --look "CT soft tissue" --clip 1 0 0 0 --samples 256 -o cut.png
      gaussianmri cinematic picture knee.nrrd --clip 1 0 0 20 --clip 0 0 1 35 -o corner.png
    """
    from ..cinematic.animation import to_bytes, write_picture
    from ..cinematic.dataset import regular_volume
    from ..cinematic.looks import default_look, find_look
    from ..cinematic.picture import render_picture
    from ..device import choose_device
    from ..geometry.markups import read_roi_markup

    check_suffix(output, ".png")
    check_writable(output, inputs=(volume, roi_file, *plane_files))
    if roi is not None and roi_file is not None:
        raise click.UsageError("Give either --roi or --roi-file.")
    planes = clip_planes(plane_files, clips)
    chosen = None if look == AUTOMATIC else find_look(look)
    stack = load_stack(volume, number)
    values, matrix = regular_volume(stack)
    modality = modality_of(stack)
    if chosen is None:
        chosen = find_look(default_look(values, modality))
    box: Roi | None = None if roi is None else (roi[0::2], roi[1::2])
    if roi_file is not None:
        box = read_roi_markup(roi_file)
    started = time.monotonic()
    with progress_bar("Rendering") as bar:

        def tell(done: int, wanted: int) -> None:
            left = (time.monotonic() - started) * (wanted - done) / done
            bar.set_postfix_str(f"about {left:.0f} s left", refresh=False)
            advance(bar, done / wanted)

        render = render_picture(
            values, matrix, look=chosen, modality=modality, body_only=body_only, clips=planes, clip_type=clip_type, roi=box,
            size=size, samples=samples, azimuth=azimuth, elevation=elevation, zoom=zoom, fov_degrees=fov, denoised=denoised,
            background=background, seed=seed, device=choose_device(device), progress=tell,
        )  # fmt: skip
    write_picture(output, to_bytes(render.image))
    click.echo(f"Stack         {stack.name}")
    click.echo(f"Look          {chosen.name}")
    click.echo(f"Samples       {render.samples} per pixel, {size[0]} x {size[1]} pixels")
    click.echo(f"Time          {time.monotonic() - started:.1f} s")
    click.echo(f"Written       {output}")
