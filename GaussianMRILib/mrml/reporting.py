"""A table of how a field was made and how good it is: a fact on each line."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import vtk
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from .dicom import stacks_from_volume
from .fields import is_field, volumes_of
from .maps import as_field, plane_facts
from .planes import plane_of
from .resampling import RESAMPLERS, native_spacing, resampler
from .scene import PREFIX, all_or_nothing, as_list, described, in_scene, is_node, place_beside, scene_of
from .volumes import planes_of_volume

#: Name, unit, description of each fact; texts have no unit (None).
FACTS: tuple[tuple[str, str | None, str], ...] = (
    ("Item", None, "The field, a volume or plane, or the reference series."),
    ("Kind", None, "field, volume, plane or reference."),
    ("Method", None, "Preset of a fit, or method of resampling."),
    ("Gaussians", "1", "Number of Gaussians in the field."),
    ("Time", "s", "Time that the fit took."),
    (
        "PSNR",
        "dB",
        "Peak signal-to-noise ratio. Of a field: on acquired slices that a trial fit was not shown, where the gap is "
        "twice the spacing; beside it that of spline interpolation there, or, where several series were put together, of "
        "the best one alone. Of a reference: mean over its slices, after "
        "one scale and offset for each method that bring its intensities nearest to the reference's (least squares), "
        "relative to the 99.9th percentile of the reference, 2 mm and more inside the scan.",
    ),
    ("SSIM", "1", "Structural similarity with the reference, mean over its slices; as PSNR."),
    (
        "Slices",
        "1",
        "Parallel planes of a volume; of a reference, slices compared; of a field, slices fitted.",
    ),
    ("Rows", "1", "Rows of pixels."),
    ("Columns", "1", "Columns of pixels."),
    ("Spacing", "mm", "Distance between pixels, the smaller one."),
    ("Thickness", "mm", "Thickness that an image is averaged over."),
    ("Outside", "%", "Share of the pixels that lie outside the scan and are empty."),
    ("Mean distance", "mm", "Mean distance of the other pixels to the nearest acquired slice."),
    ("Max distance", "mm", "Largest distance of the other pixels to the nearest acquired slice."),
    (
        "Support",
        "1",
        "Mean of the support map: 1 where Gaussians are as dense as usual in this field, 0 where none are.",
    ),
)
#: More slices of a reference than this are not compared; they are spread over it.
MOST_SLICES = 32

#: Decimals of a fact in the table; the others are whole numbers.
_DECIMALS = {"Time": 1, "PSNR": 2, "SSIM": 4, "Spacing": 3, "Thickness": 2, "Outside": 1, "Support": 3}
_DECIMALS |= {"Mean distance": 2, "Max distance": 2}

Row = dict[str, str | float]


def report(field: Any, planes_or_volumes: Any = (), *, reference: Any = None, scene: Any = None) -> Any:
    """A table node with the facts of `report_rows`, one a line: columns "Fact" and "Value", the latter with its unit.

    Each thing begins with a line of its own, and what the facts mean is the description of the column "Fact".

    Args:
        field, planes_or_volumes, reference: see `report_rows`.
        scene: default: that of the field's node.

    Returns:
        a new vtkMRMLTableNode.

    Raises:
        GaussianMRIError: see `report_rows`; the scene is then as it was.
    """
    scene = scene_of(field, *as_list(planes_or_volumes), reference, scene=scene)
    rows = report_rows(field, planes_or_volumes, reference=reference)
    name = str(rows[0]["Item"])
    with all_or_nothing(scene, undo=True) as added:
        node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(f"{name} report"))
        added.append(node)
        _fill(node, rows)
        if in_scene(field):
            place_beside(node, field)
    return node


def report_rows(field: Any, planes_or_volumes: Any = (), *, reference: Any = None) -> list[Row]:
    """Facts of a field, of images on planes, and of their likeness to an acquired series.

    Args:
        field: a field's model node or a GaussianField.
        planes_or_volumes: volume nodes made by `resample` (one row each), markups planes, slice nodes or ImagePlanes
            (what the field would show there).
        reference: a scalar volume node acquired where the field is, such as an aligned isotropic series: the Gaussians
            and, where the field's volumes are still in the scene, voxel and spline interpolation are compared with it
            on its own slices.

    Returns:
        for each thing a dictionary with those of `FACTS` that apply to it, numbers as float.

    Raises:
        GaussianMRIError: what is no field, plane or volume; a reference without pixels inside the scan.
    """
    rendered = as_field(field)
    name = field.GetName() if is_field(field) else "Gaussian field"
    rows = _field_rows(rendered, name)
    rows += [_image_row(rendered, item) for item in as_list(planes_or_volumes)]
    if reference is not None:
        rows += _reference_rows(field, rendered, reference)
    return rows


def _field_rows(field: Any, name: str) -> list[Row]:
    from ..fitting.quality import Quality

    facts = field.report
    row: Row = {
        "Item": name,
        "Kind": "field",
        "Method": str(facts.get("preset", "")),
        "Gaussians": float(len(field)),
        "Slices": float(len(field.slice_poses)),
    }
    quality = Quality.of(facts)
    rows, item = [row], name
    if quality is not None and quality.series is not None:  # nothing says how good they are together
        item = quality.series
        rows.append({"Item": item, "Kind": "field", "Method": f"{row['Method']}, alone"})
    for column, value in (("Time", facts.get("elapsed_s")), ("Spacing", native_spacing(field))):
        if value is not None:
            row[column] = float(value)
    if quality is not None:
        rows[-1]["PSNR"] = float(quality.psnr)
        other = {"Item": item, "Kind": "field", "Method": f"{quality.other}, for comparison"}
        rows.append({**other, "PSNR": float(quality.other_psnr)})
    return rows


def _image_row(field: Any, item: Any) -> Row:
    if is_node(item, "vtkMRMLVolumeNode"):
        method = item.GetAttribute(PREFIX + "Method")
        if method is None:
            raise GaussianMRIError(f"{described(item)} is no resampled volume; resample a plane first.")
        planes = planes_of_volume(item)
        row: Row = {"Item": item.GetName(), "Kind": "volume", "Method": method}
    else:
        planes = [plane_of(item, native_spacing(field))]
        row = {"Item": item.GetName() if is_node(item) else "plane", "Kind": "plane", "Method": "gaussians"}
    facts = [plane_facts(field, plane) for plane in planes]
    inside = np.array([1 - fact.outside for fact in facts])
    rows, columns = planes[0].shape
    row |= {
        "Slices": float(len(planes)),
        "Rows": float(rows),
        "Columns": float(columns),
        "Spacing": min(planes[0].spacing),
        "Thickness": planes[0].thickness,
        "Outside": 100 * (1 - float(inside.mean())),
    }
    if inside.any():
        some = inside > 0
        for column, attribute in (("Mean distance", "mean_distance"), ("Support", "mean_support")):
            values = np.array([getattr(fact, attribute) for fact in facts])
            row[column] = float(np.average(values[some], weights=inside[some]))
        row["Max distance"] = float(np.nanmax([fact.max_distance for fact in facts]))
    return row


def _reference_rows(source: Any, field: Any, reference: Any) -> list[Row]:
    """One row for each method that can be compared."""
    from ..evaluation import compare, judged

    (stack,) = stacks_from_volume(reference)
    planes = stack.planes()
    truths = [judged(pixels, plane, [field.hulls]) for plane, pixels in zip(planes, stack.pixels, strict=True)]
    if not any(np.isfinite(truth).any() for truth in truths):
        raise GaussianMRIError(
            f"{described(reference)} shows nothing of what was fitted; choose a series that was acquired there."
        )
    volumes = volumes_of(source) if is_field(source) else []
    renderers = {
        method: functools.partial(_rendered, source, field, volumes, method)
        for method in (RESAMPLERS if volumes else RESAMPLERS[:1])
    }
    # Volumes that were changed since the fit may leave pixels of the field empty.
    _, results = compare(
        renderers, planes, truths, matched=True, most=MOST_SLICES, whole=False, name=described(reference)
    )
    rows, columns = stack.shape[1:]
    return [
        {
            "Item": reference.GetName(),
            "Kind": "reference",
            "Method": result.method,
            "PSNR": result.mean.psnr,
            "SSIM": result.mean.ssim,
            "Slices": float(len(result.scores)),
            "Rows": float(rows),
            "Columns": float(columns),
            "Spacing": min(stack.pixel_spacing),
            "Thickness": stack.thickness,
        }
        for result in results
    ]


def _rendered(
    source: Any, field: Any, volumes: Any, method: str, planes: Sequence[ImagePlane]
) -> list[NDArray[np.float32]]:
    renderer = field if method == "gaussians" else resampler(source, method=method, volumes=volumes)
    return [renderer.render(plane) for plane in planes]


def _fill(node: Any, rows: Sequence[Row]) -> None:
    lines: list[tuple[str, str]] = []
    for row in rows:
        lines.append((f"{str(row['Kind']).capitalize()}: {row['Item']}", str(row["Method"])))
        lines += [
            (name, _text(name, row[name], unit)) for name, unit, _ in FACTS if unit is not None and name in row
        ]
    table = vtk.vtkTable()
    for number, name in enumerate(("Fact", "Value")):
        column = vtk.vtkStringArray()
        column.SetName(name)
        for line in lines:
            column.InsertNextValue(line[number])
        table.AddColumn(column)
    node.SetAndObserveTable(table)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetColumnDescription("Fact", "\n".join(f"{name}: {text}" for name, unit, text in FACTS if unit is not None))


def _text(name: str, value: str | float, unit: str) -> str:
    return f"{value:,.{_DECIMALS.get(name, 0)}f}" + ("" if unit == "1" else f" {unit}")
