"""Files of fields: NumPy archives with a header in JSON, so that any program with NumPy reads them."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write, finite, number, read_arrays, reading
from ..geometry import hull_corners
from ..geometry.affine import LARGEST_POSITION_MM, unit_vector
from .field_data import FieldData
from .lattice import GaussianLattice
from .views import FULL_DEGREES, NONE_DEGREES, SeriesView

FORMAT = "GaussianMRI field"
#: Of the file: 1 has plain Gaussians only, 2 a lattice as well, 3 views of single series. Fields without these are still
#: written as the older versions.
VERSION = 3
#: The higher levels of zlib take five times as long and save a few per cent of a lattice, which is mostly noise.
_LEVEL = 1


def header_of(field: FieldData) -> dict[str, Any]:
    """What a file says of a field beside its arrays: JSON types only."""
    described: dict[str, Any] = {
        "format": FORMAT,
        "version": 3 if field.views else 2 if field.lattice is not None else 1,
        "model": "I(x) = offset + scale * sum(w c) / (sum(w) + background); w = opacity * exp(-q/2) where "
        "q = |M (x - mean)|^2 < cut; x in RAS mm; M upper triangular, rows M00 M01 M02 M11 M12 M22",
        "offset": field.offset,
        "scale": field.scale,
        "background": field.background,
        "cut": field.cut,
        "frame_of_reference": field.frame_of_reference,
        "report": field.report,
    }
    if field.lattice is not None:
        described["lattice"] = {
            "model": "Gaussians at nodes u = (x, y, z), RAS = node_to_ras u; colour c = step * codes[brick, z % 8, y % 8, "
            "x % 8], brick = lattice_table[z // 8, y // 8, x // 8], -1: none; weight exp(-|v - u|^2 / (2 * 0.6^2)) at node "
            "coordinates v, for the 4 x 4 x 4 nodes around v; codes = lattice_low + 256 * lattice_high (8 bits each, low "
            "without and high with sign, apart because they compress better so); in Slicer's models lattice_codes is a zlib "
            "stream of lattice_low, then lattice_high",
            **_facts(field.lattice),
        }
    if field.views:
        described["views_model"] = (
            "On a plane whose normal is turned from the view's by an angle of a degrees, and where the view's lattice has "
            "weight, I is (1 - s) times the above plus s times the view's; "
            "s = (share + (1 - share) m) (3 t^2 - 2 t^3), "
            f"t = ({NONE_DEGREES:g} - a) / {NONE_DEGREES - FULL_DEGREES:g} within 0 to 1; m: mean over the plane of "
            "cos^2(pi u), u <= 1/2 the distance from the nearest of the view's slices, which lie at normal . RAS = places, "
            "over that between neighbours; m = 0 without places. Lattices as above: view0_low, ..."
        )
        described["views"] = [
            {
                "normal": view.normal.tolist(),
                "share": view.share,
                "places": view.places.tolist(),
                **_facts(view.lattice),
            }
            for view in field.views
        ]
    return described


def _facts(lattice: GaussianLattice) -> dict[str, Any]:
    return {"node_to_ras": lattice.node_to_ras.tolist(), "step": lattice.step}


def lattices_of(field: FieldData) -> dict[str, GaussianLattice]:
    """All lattices of a field, by the name that their arrays begin with."""
    own = {} if field.lattice is None else {"lattice": field.lattice}
    return {**own, **{f"view{n}": view.lattice for n, view in enumerate(field.views)}}


def _ascending(places: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.diff(places).min(initial=1.0) < 1e-6:
        raise GaussianMRIError("The places of a view are those of no slices.")
    return places


Field = TypeVar("Field", bound=FieldData)
#: Codes (B, 8, 8, 8) and table (bz, by, bx) of a lattice.
Stored = tuple[NDArray[np.int16], NDArray[np.int32]]


def field_of(
    kind: type[Field],
    header: dict[str, Any],
    parameters: NDArray[np.float32],
    hulls: Sequence[NDArray[np.float64]],
    slice_poses: NDArray[np.float64],
    slice_shapes: NDArray[np.int32],
    device: torch.device | str = "cpu",
    stored: Mapping[str, Stored] | None = None,
) -> Field:
    """The field of a header and of arrays as the classes have them; `stored`: of the lattices, by `lattices_of`' names.

    Raises:
        KeyError, TypeError, ValueError, GaussianMRIError: something is missing or has another shape.
    """
    lattice = None
    if "lattice" in header:
        lattice = _lattice_of(header["lattice"], stored, "lattice", device)
    views = tuple(
        SeriesView(
            _lattice_of(facts, stored, f"view{n}", device),
            unit_vector(finite(facts["normal"], (3,), "normal of a view", 2)),
            number(facts["share"], "share of a view", 0, 1),
            _ascending(finite(facts["places"], (None,), "places of a view", LARGEST_POSITION_MM)),
        )
        for n, facts in enumerate(header.get("views", []))
    )
    _check_gaussians(parameters)
    offset, scale = number(header["offset"], "offset"), number(header["scale"], "scale")
    steps = [own.step for own in (lattice, *(view.lattice for view in views)) if own is not None]
    brightest = abs(parameters[9]).max(initial=0) + 32768 * max(steps, default=0.0)
    if not abs(offset) + abs(scale) * float(brightest) < _BRIGHTEST:
        raise GaussianMRIError("The intensities are beyond what numbers of 32 bits hold.")
    frame, report = header["frame_of_reference"], _checked_report(header["report"])
    if frame is not None and not isinstance(frame, str):
        raise GaussianMRIError("The frame of reference must be text.")
    poses = finite(slice_poses, (None, 4, 4), "slices' poses", LARGEST_POSITION_MM)
    shapes = finite(slice_shapes, (len(poses), 2), "slices' shapes", 1e6)
    steps = np.linalg.norm(poses[:, :3, :3], axis=1)
    if not len(poses) or shapes.min() < 1 or steps.min() < 1e-6 or not np.allclose(poses[:, 3], [0, 0, 0, 1]):
        raise GaussianMRIError("The slices' poses and shapes are those of no slices.")
    if not hulls:
        raise GaussianMRIError("There is no hull around what was scanned.")
    return kind(
        torch.from_numpy(parameters).to(device),
        offset,
        scale,
        tuple(_checked_hull(hull) for hull in hulls),
        poses,
        shapes.astype(np.int32),
        frame,
        report,
        number(header["background"], "background", 0, 1e6),
        number(header["cut"], "cut", 1e-6, 1e6),
        lattice,
        views,
    )


def _lattice_of(
    facts: dict[str, Any], stored: Mapping[str, Stored] | None, name: str, device: torch.device | str
) -> GaussianLattice:
    if stored is None or name not in stored:
        raise ValueError("the lattice is missing")
    codes, table = stored[name]
    matrix = finite(facts["node_to_ras"], (4, 4), "lattice's node_to_ras", LARGEST_POSITION_MM)
    if not np.allclose(matrix[3], [0, 0, 0, 1]) or not 1e-9 < abs(np.linalg.det(matrix)) < 1e9:
        raise GaussianMRIError("The lattice's node_to_ras is no matrix that a lattice can have.")
    if codes.ndim != 4 or table.ndim != 3 or table.dtype.kind != "i" or not table.size:
        raise GaussianMRIError(f"A lattice of codes {codes.shape} and a table {table.shape} cannot be.")
    if table.min() < -1 or table.max() >= len(codes):
        raise GaussianMRIError("The lattice's table names bricks that are not there.")
    if len(np.unique(table[table >= 0])) != np.count_nonzero(table >= 0):
        raise GaussianMRIError("The lattice's table names a brick twice.")
    step = number(facts["step"], "lattice's step", 1e-30)
    return GaussianLattice.from_codes(codes, table.astype(np.int32), matrix, step=step, device=device)


#: The largest intensity, with room for sums of float32.
_BRIGHTEST = 1e37


def _check_gaussians(parameters: NDArray[np.float32]) -> None:
    finite(parameters, (11, None), "Gaussians' parameters")
    if np.abs(parameters[:3]).max(initial=0) > LARGEST_POSITION_MM:
        raise GaussianMRIError(f"A Gaussian lies more than {LARGEST_POSITION_MM:g} mm away.")
    if parameters[[3, 6, 8]].min(initial=1) <= 0 or parameters[10].min(initial=0) < 0:
        raise GaussianMRIError("A Gaussian has no extent or a negative amplitude.")


def _checked_hull(hull: NDArray[np.float64]) -> NDArray[np.float64]:
    planes = finite(hull, (None, 4), "hull around what was scanned")
    if len(planes) < 4 or np.linalg.norm(planes[:, :3], axis=1).min() < 1e-9:
        raise GaussianMRIError("The hull around what was scanned has no faces.")
    if not np.abs(hull_corners(planes)).max() <= LARGEST_POSITION_MM:  # or NaN
        raise GaussianMRIError("The hull around what was scanned is unbounded.")
    return planes


def _checked_report(report: Any) -> dict[str, Any]:
    """What rendering and other commands take out of a report is there in the form that they expect."""
    if not isinstance(report, dict):
        raise GaussianMRIError("The report is no table of facts.")
    if "support_median" in report:
        number(report["support_median"], "median of the support", 1e-30)
    stacks = report.get("stacks", [])
    if not isinstance(stacks, list) or not all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in stacks):
        raise GaussianMRIError("The report's stacks have no names.")
    if not all(isinstance(stack.get("series", ""), str) for stack in stacks):
        raise GaussianMRIError("What the report says of the stacks' series is no text.")
    for stack in stacks:
        what = f"distance between the slices of '{stack['name'][:40]}'"
        number(stack.get("spacing_mm", 0.0), what, 0.0, LARGEST_POSITION_MM)
    return report


def bytes_of(codes: NDArray[np.int16]) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """The low and the high bytes of codes. Apart they compress better: noise is in the low one, the other hardly changes."""
    return codes.astype(np.uint8), (codes >> 8).astype(np.int8)


def codes_of(low: NDArray[np.uint8], high: NDArray[np.int8]) -> NDArray[np.int16]:
    """What `bytes_of` took apart."""
    codes = high.astype(np.int16)
    codes <<= 8
    codes |= low
    return codes


def save(field: FieldData, path: str | os.PathLike[str]) -> None:
    """See `GaussianField.save`."""
    arrays: dict[str, NDArray[Any]] = {
        "header": np.array(json.dumps(header_of(field))),
        **{name: getattr(field, name) for name in ("means", "factors", "colours", "opacities")},
        "slice_poses": field.slice_poses,
        "slice_shapes": field.slice_shapes,
        **{f"hull{n}": hull for n, hull in enumerate(field.hulls)},
    }
    for name, lattice in lattices_of(field).items():
        arrays[f"{name}_low"], arrays[f"{name}_high"] = bytes_of(lattice.codes)
        arrays[f"{name}_table"] = lattice.table.cpu().numpy()
    with (
        atomic_write(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
    ):
        for name, array in arrays.items():
            # numpy.savez_compressed does the same, with no choice of the level.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def load(kind: type[Field], path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Field:
    """See `GaussianField.load`."""
    with reading(path, "a GaussianMRI field"):
        stored = read_arrays(path)
        header = json.loads(str(stored["header"]))
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError("another format")
        if number(header["version"], "version") > VERSION:
            raise GaussianMRIError(
                f"{path} was written by a newer version (field version {header['version']}); update GaussianMRI."
            )
        columns = (stored["means"].T, stored["factors"].T, stored["colours"][None], stored["opacities"][None])
        if any(rows.dtype != np.float32 for rows in columns):
            raise ValueError("the Gaussians are no numbers of 32 bits")
        parameters = np.ascontiguousarray(np.concatenate(columns))
        names = sorted((n for n in stored if re.fullmatch(r"hull\d+", n)), key=lambda n: int(n[4:]))
        hulls = [stored[name] for name in names]
        lattices = {}
        for name in [n.removesuffix("_table") for n in stored if n.endswith("_table")]:
            low, high = stored[f"{name}_low"], stored[f"{name}_high"]
            if low.dtype != np.uint8 or high.dtype != np.int8 or low.shape != high.shape:
                raise ValueError("the lattice's codes do not belong together")
            lattices[name] = codes_of(low, high), stored[f"{name}_table"]
        poses, shapes = stored["slice_poses"], stored["slice_shapes"]
        field = field_of(kind, header, parameters, hulls, poses, shapes, device, lattices)
    return field
