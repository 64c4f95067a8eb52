"""`gaussianmri labels`."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import numpy as np

from .app import advance, check_suffix, check_writable, common_options, output_option, progress_bar

_logger = logging.getLogger("GaussianMRI")


@click.command(short_help="Resample a label map onto a resampled image.")
@click.argument("label_file", metavar="LABELS", type=click.Path(path_type=Path))
@click.option(
    "--onto", required=True, type=click.Path(path_type=Path), metavar="VOLUME",
    help="Volume whose voxels get labels, such as one written by `gaussianmri resample`.",
)  # fmt: skip
@click.option(
    "--boundaries", type=click.Choice(["smooth", "nearest"]), default="smooth", show_default=True,
    help="Outlines that move from slice to slice, or the label of the nearest voxel.",
)  # fmt: skip
@output_option("LABELS.seg.nrrd")
@common_options
def labels(label_file: Path, onto: Path, boundaries: str, output: Path) -> None:
    """Resample LABELS onto the voxels of a volume: an oblique plane, a stack of planes, or an isotropic volume.

    LABELS is a label map: Slicer's .seg.nrrd, .nrrd, .nii.gz or .mha. Names and colours of segments are kept from
    one .seg.nrrd to another. Labels are those of the middle of each slice.

    \b
    Examples:
      gaussianmri labels spine.seg.nrrd --onto oblique.nrrd -o oblique.seg.nrrd
      gaussianmri labels vertebrae.nii.gz --onto volume.nii.gz -o labels.nii.gz --boundaries nearest
    """
    check_suffix(output, ".nrrd", ".nii", ".nii.gz", ".mha")
    check_writable(output, inputs=(label_file, onto))

    from ..files import reading
    from ..geometry import ImagePlane, slice_poses
    from ..labels import LabelFile, LabelResampler, read_labels, write_labels
    from ..stacks.itk import quiet_itk
    from ..stacks.volumes import read_voxels

    given = read_labels(label_file)
    with reading(onto, "a volume"), quiet_itk() as sitk:
        image, affine = read_voxels(sitk, onto)
        planes = [ImagePlane(pose, image.shape[1:]) for pose in slice_poses(affine, len(image))]
    with progress_bar("Outlines") as bar:
        resampler = LabelResampler(
            given.voxels, given.ijk_to_ras, boundaries=boundaries, progress=lambda part: advance(bar, part / 2)
        )
        bar.set_description_str("Labels")
        voxels = np.empty(image.shape, given.voxels.dtype)
        for k, plane in enumerate(planes):
            voxels[k] = resampler.render(plane)
            advance(bar, 0.5 + (k + 1) / len(planes) / 2)
    lost = sorted(set(np.unique(given.voxels).tolist()) - set(np.unique(voxels).tolist()) - {0})
    if lost:
        names = ", ".join(given.segments.get(value, {}).get("Name", str(value)) for value in lost)
        _logger.warning("Not there: %s; these labels do not reach the volume, or lie between its voxels.", names)
    if given.segments and not output.name.lower().endswith(".seg.nrrd"):
        _logger.warning("%s has no place for the segments' names and colours; a .seg.nrrd has.", output)
    write_labels(output, LabelFile(voxels, affine, segments=given.segments))
    found = len(np.unique(voxels[voxels > 0]))
    click.echo(f"{found} labels on {' x '.join(map(str, image.shape))} voxels written to {output}")
