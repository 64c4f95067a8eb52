"""`gaussianmri resample`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import all_or_none, file_names
from ..geometry.slab import PROJECTIONS
from .app import check_suffix, check_writable, common_options, load_stacks
from .resample_curve import AlongCurve, curve_options, write_along_curve
from .resample_volume import write_isotropic

if TYPE_CHECKING:
    from ..gaussians import GaussianField
    from ..geometry import ImagePlane
    from ..stacks import SliceStack

Triple = tuple[float, float, float]
Rendered = tuple[str, "list[ImagePlane]", list[NDArray[np.float32]]]
_logger = logging.getLogger("GaussianMRI")


@click.command(short_help="Render planes of a fitted field.")
@click.argument("field_file", metavar="FIELD", type=click.Path(path_type=Path))
@click.option(
    "--plane", type=click.Path(path_type=Path), metavar="X.mrk.json",
    help="Planes placed in 3D Slicer; of several, each has outputs of its own, named after it.",
)  # fmt: skip
@click.option(
    "--line", type=click.Path(path_type=Path), metavar="X.mrk.json",
    help="A line placed in 3D Slicer: planes across it, from its start on every --step mm.",
)  # fmt: skip
@click.option(
    "--radial", type=click.IntRange(1, 999), default=None, metavar="COUNT",
    help="Instead, this number of planes through --line, evenly turned about it; each has outputs of its own.",
)  # fmt: skip
@click.option(
    "--center", nargs=3, type=float, default=None, metavar="R A S", help="Middle of the image, RAS mm."
)
@click.option(
    "--normal", nargs=3, type=float, default=None, metavar="R A S", help="Normal of the plane, RAS."
)
@click.option(
    "--up", nargs=3, type=float, default=None, metavar="R A S", help="Direction upwards in the image."
)
@click.option(
    "--size",
    nargs=2,
    type=click.IntRange(1, 8192),
    metavar="COLUMNS ROWS",
    help="Pixels.  [default: 224 224, or the markup's size]",
)
@click.option("--spacing", type=float, default=None, help="Pixel spacing in mm.  [default: 0.5]")
@click.option(
    "--thickness", type=float, default=0.0, show_default=True, help="Slice thickness in mm; 0 is thin."
)
@click.option(
    "--projection", type=click.Choice(PROJECTIONS), default="mean", show_default=True,
    help="Of the thickness: as in a slice of it, the brightest, or the darkest value.",
)  # fmt: skip
@click.option(
    "--count",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Parallel planes around the given one.",
)
@click.option(
    "--step", type=click.FloatRange(0, min_open=True), default=None, metavar="MM", help="Distance between them."
)
@click.option(
    "--isotropic", is_flag=False, flag_value=0.0, type=click.FloatRange(0), default=None, metavar="[MM]",
    help="Instead of planes, a volume of everything scanned, with voxels of MM.  [without MM: the field's own]",
)  # fmt: skip
@click.option(
    "--roi", nargs=6, type=float, default=None, metavar="R0 R1 A0 A1 S0 S1",
    help="Of that volume: only this box, RAS millimetres.",
)  # fmt: skip
@click.option(
    "--axes", type=click.Choice(["first", "ras"]), default=None,
    help="Of that volume: along the first slice, or the patient.  [default: first]",
)  # fmt: skip
@curve_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Volume to write: .nrrd, .nii.gz or .mha."
)
@click.option(
    "--dicom",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write a derived DICOM series; needs --source.",
)
@click.option(
    "--source", type=click.Path(path_type=Path), multiple=True, metavar="INPUT",
    help="What the field was fitted to: its patient and study go into the DICOM series.",
)  # fmt: skip
@click.option("--png", type=click.Path(path_type=Path), help="Write the middle plane as a picture.")
@click.option(
    "--distance",
    type=click.Path(path_type=Path),
    help="Write the distance in mm to the nearest acquired slice.",
)
@click.option(
    "--support",
    type=click.Path(path_type=Path),
    help="Write how well Gaussians support each pixel (1: as usual).",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@common_options
def resample(
    field_file: Path,
    plane: Path | None,
    line: Path | None,
    radial: int | None,
    center: Triple | None,
    normal: Triple | None,
    up: Triple | None,
    size: tuple[int, int] | None,
    spacing: float | None,
    thickness: float,
    projection: str,
    count: int,
    step: float | None,
    isotropic: float | None,
    roi: tuple[float, ...] | None,
    axes: Literal["first", "ras"] | None,
    output: Path | None,
    dicom: Path | None,
    source: tuple[Path, ...],
    png: Path | None,
    distance: Path | None,
    support: Path | None,
    device: str,
    along: AlongCurve | None,
) -> None:
    """Render one plane, several parallel ones, or a whole volume, of the FIELD that `gaussianmri fit` wrote.

    With --curve the volume is straightened: what lies along a curve, such as the spinal canal, lies on a straight line, and
    millimetres along the curve and across it are kept. It is a space of its own, about where the curve is.

    Pixels outside what was scanned are empty (0); --support tells them from dark tissue. A file with several
    planes, such as a plane set saved by the Slicer module, gives `-o oblique.nrrd` as oblique-NAME.nrrd for each.

    \b
    Examples:
      gaussianmri resample spine.npz --plane L5-S1.mrk.json -o oblique.nrrd --png oblique.png
      gaussianmri resample spine.npz --center 0 -20 5 --normal 0 0.5 0.87 --count 9 --step 2 -o stack.nii.gz
      gaussianmri resample spine.npz --plane L5-S1.mrk.json --thickness 4 --dicom out/ --source dicom/
      gaussianmri resample spine.npz --plane L5-S1.mrk.json --thickness 10 --projection max --png slab.png
      gaussianmri resample spine.npz --line canal.mrk.json --step 5 -o across.nrrd
      gaussianmri resample spine.npz --line canal.mrk.json --radial 12 -o radial.nrrd
      gaussianmri resample spine.npz --isotropic 0.5 -o volume.nii.gz
      gaussianmri resample spine.npz --curve canal.mrk.json --width 60 -o straight.nii.gz --png straight.png
    """
    by_axes = center is not None and normal is not None
    of_planes = (plane, line, radial, center, normal, up, size, step, distance, support)
    placed = any(option is not None for option in of_planes) or thickness > 0 or count > 1
    if along is not None:
        if placed or isotropic is not None or axes is not None or roi is not None or dicom is not None:
            raise click.UsageError(
                "--curve makes a volume or image for -o and --png; leave the options of planes, --isotropic and --dicom out."
            )
    elif isotropic is not None:
        if placed or spacing is not None or png is not None:
            raise click.UsageError("--isotropic makes a volume for -o and --dicom; leave the options of planes out.")
    elif axes is not None or roi is not None:
        raise click.UsageError("--axes and --roi are those of a volume; add --isotropic.")
    elif sum((plane is not None, line is not None, by_axes)) != 1 or ((plane or line) and (center or normal or up)):
        raise click.UsageError("Give either --plane, or --line, or --center and --normal, or --isotropic, or --curve.")
    if line is not None and (count > 1 or (radial is None) == (step is None)):
        raise click.UsageError("--line needs either --step, the mm between planes across it, or --radial, and no --count.")
    if radial is not None and line is None:
        raise click.UsageError("--radial needs --line, the axis that the planes are turned about.")
    if projection != "mean" and not thickness:
        raise click.UsageError("--projection needs --thickness, that of the slab in mm.")
    if not any((output, dicom, png, distance, support)):
        raise click.UsageError("Nothing to write: give -o, --dicom, --png, --distance or --support.")
    if count > 1 and step is None:
        raise click.UsageError("--count needs --step, the distance between the planes in mm.")
    if step is not None and count == 1 and line is None:
        raise click.UsageError("--step is the distance between several planes; it needs --count of 2 or more, or --line.")
    if dicom is not None and not source:
        raise click.UsageError("--dicom needs --source, the images that the field was fitted to.")
    for volume in (output, distance, support):
        check_suffix(volume, ".nrrd", ".nii", ".nii.gz", ".mha")
    check_suffix(png, ".png")
    used = () if along is None else (along.curve,)
    inputs = (field_file, plane, line, *used, *source)
    check_writable(output, png, distance, support, inputs=inputs)
    if dicom is not None and any(dicom.resolve() == path.resolve() for path in source):
        raise GaussianMRIError(f"{dicom} is an input, which is never overwritten; give the output another name.")

    from ..device import choose_device
    from ..gaussians import GaussianField

    field = GaussianField.load(field_file, device=choose_device(device))
    if along is not None:
        with all_or_none():
            told = write_along_curve(field, along, spacing, output, png)
        click.echo(told)
        return
    if isotropic is not None:
        sources = _source_stacks(source, field) if dicom is not None else []
        with all_or_none():
            box = None if roi is None else [roi[0:2], roi[2:4], roi[4:6]]
            told = write_isotropic(field, isotropic or None, box, axes or "first", output, dicom, sources)
        click.echo(told)
        return
    rendered: list[Rendered] = []
    if line is not None:
        listed = _about_line(line, radial, step, size, spacing, thickness)
    else:
        single = _planes(plane, center, normal, up, size, spacing, thickness)
        listed = [(name, middle.stack(count, 1.0 if step is None else step)) for name, middle in single]
    for name, planes in listed:
        rendered.append((name, planes, field.render_many(planes, projection=projection)))
    rendered = _covered(rendered, field_file, plane or line)
    sources = _source_stacks(source, field) if dicom is not None else []
    lines = []
    with all_or_none():
        for number, (name, planes, images) in enumerate(rendered):
            to = [
                None if path is None else _named(path, name) for path in (output, dicom, png, distance, support)
            ]
            check_writable(*to[:1], *to[2:], inputs=inputs)
            lines.append(_write(field, planes, images, projection, sources, name, number, *to))
    for told in lines:
        click.echo(told)


def _planes(
    markups: Path | None,
    center: Triple | None,
    normal: Triple | None,
    up: Triple | None,
    size: tuple[int, int] | None,
    spacing: float | None,
    thickness: float,
) -> list[tuple[str, ImagePlane]]:
    """The planes to render, each with what its outputs are named after; "" of a single one."""
    from ..geometry import ImagePlane

    shape = None if size is None else (size[1], size[0])
    pixels = None if spacing is None else (spacing, spacing)
    if markups is None:
        assert center is not None and normal is not None
        plane = ImagePlane.from_normal(
            center, normal, spacing=pixels or (0.5, 0.5), shape=shape or (224, 224), thickness=thickness, up=up
        )
        return [("", plane)]
    found = ImagePlane.set_from_markups(markups, spacing=pixels, shape=shape, thickness=thickness)
    if len(found) == 1:
        return [("", found[0][1])]
    names = file_names((label for label, _ in found), "plane")
    return [(name, plane) for name, (_, plane) in zip(names, found, strict=True)]


def _about_line(
    line: Path,
    radial: int | None,
    step: float | None,
    size: tuple[int, int] | None,
    spacing: float | None,
    thickness: float,
) -> list[tuple[str, list[ImagePlane]]]:
    """Planes across a line, one stack, or turned about it, each with the angle that its outputs are named after."""
    from ..geometry import planes_along, radial_planes
    from ..geometry.markups import read_line_markup

    start, end = read_line_markup(line)
    pixel = spacing or 0.5
    columns, rows = size or (224, 224)
    extent = columns * pixel, rows * pixel
    if radial is None:
        assert step is not None
        return [("", planes_along(start, end, step, size=extent, spacing=pixel, thickness=thickness))]
    planes = radial_planes(start, end, radial, size=extent, spacing=pixel, thickness=thickness)
    return [(f"{180 * k / radial:05.1f}deg", [plane]) for k, plane in enumerate(planes)]


def _named(path: Path, name: str) -> Path:
    """A file or folder for one of several planes: oblique.nii.gz becomes oblique-L5-S1.nii.gz."""
    if not name:
        return path
    suffix = path.name[-7:] if path.name.lower().endswith(".nii.gz") else path.suffix
    return path.with_name(f"{path.name.removesuffix(suffix)}-{name}{suffix}")


def _covered(rendered: list[Rendered], field_file: Path, markups: Path | None) -> list[Rendered]:
    """Those that show something of the scan; the others are named."""
    kept = []
    for name, planes, images in rendered:
        shares = [float(np.isfinite(image).mean()) for image in images]
        if max(shares) > 0:
            kept.append((name, planes, images))
        elif name:
            _logger.warning("Left out: the plane %s lies outside the scanned region.", name)
        if 0 < max(shares) and min(shares) < 1:
            low, high = 100 * min(shares), 100 * max(shares)
            _logger.info("The scan covers %.0f to %.0f %% of the plane %s.", low, high, name)
    if not kept:
        which = f"{markups}: " if markups is not None else ""
        which += "All planes lie" if len(rendered) > 1 else "The plane lies"
        raise GaussianMRIError(
            f"{which} outside the scanned region of {field_file}; nothing is known there. Move it."
        )
    return kept


def _source_stacks(source: tuple[Path, ...], field: GaussianField) -> list[SliceStack]:
    """The acquired stacks that the field was fitted to: the derived series shares their patient, study and frame."""
    here = [stack for stack in load_stacks(source) if stack.frame_of_reference == field.frame_of_reference]
    facts = field.report.get("stacks", [])
    if any(entry.get("series") for entry in facts):
        # A name is one of those that were read together: alone, the second series of two of one name has the first's.
        series, named = ({entry.get(key) for entry in facts} for key in ("series", "name"))
        here = [stack for stack in here if stack.series_digest in series]
        exact = {stack.series_digest for stack in here if stack.name in named}
        here = [stack for stack in here if stack.name in named or stack.series_digest not in exact]
    elif facts:  # a field of an earlier version
        here = [stack for stack in here if stack.name in {entry["name"] for entry in facts}]
    else:
        here = here[:1]  # nothing says which
    if not here:
        raise GaussianMRIError(
            "The field was not fitted to any of the stacks in --source; give the images it was fitted to."
        )
    return here


def _write(
    field: GaussianField,
    planes: list[ImagePlane],
    images: list[NDArray[np.float32]],
    projection: str,
    sources: list[SliceStack],
    name: str,
    number: int,
    output: Path | None,
    dicom: Path | None,
    png: Path | None,
    distance: Path | None,
    support: Path | None,
) -> str:
    """Write what one plane, or one stack of planes, has; a line that says so."""
    from ..writers import SERIES_NUMBER, write_dicom_series, write_png, write_volume

    written: list[Path] = []
    if dicom is not None:
        description = f"GaussianMRI {name}".rstrip()
        write_dicom_series(
            dicom, images, planes, source=sources, description=description, projection=projection,
            number=SERIES_NUMBER + number,
        )  # fmt: skip
        written.append(dicom)
    if output is not None:
        write_volume(output, images, planes)
        written.append(output)
    if distance is not None:
        write_volume(distance, [field.distance_to_slices(plane) for plane in planes], planes)
        written.append(distance)
    if support is not None:
        write_volume(support, [field.support(plane) for plane in planes], planes)
        written.append(support)
    if png is not None:
        write_png(png, images[len(images) // 2], plane=planes[len(planes) // 2])
        written.append(png)
    rows, columns = images[0].shape
    return f"{len(images)} x {rows} x {columns} pixels written to {', '.join(map(str, written))}"
