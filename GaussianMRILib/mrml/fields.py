"""Gaussian fields as model nodes: they save, load and undo with the scene, and are bit for bit the same after it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import vtk
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..errors import GaussianMRIError
from ..geometry import transform_points
from .scene import PREFIX, all_or_nothing, described, in_scene, is_node, node_to_fill, place_beside, scene_of
from .volume_state import change_of_volume, states_of

if TYPE_CHECKING:
    from ..gaussians import GaussianField, GaussianLattice

#: Reference role from a field to the volumes it was fitted to.
VOLUME_ROLE = PREFIX + "Volume"
_KIND, _FIELD = PREFIX + "Kind", "field"
#: Attribute with the states of those volumes, in their order.
_STATES = PREFIX + "VolumeStates"
#: What the header says when points are a lattice's bricks, of which so many are shown at most.
_BRICKS, _MOST_BRICKS = "bricks", 100_000


def is_field(node: Any) -> bool:
    """Whether a node is a model node made by `field_to_model` (the attribute `GaussianMRI.Kind` is "field")."""
    return is_node(node, "vtkMRMLModelNode") and node.GetAttribute(_KIND) == _FIELD


def field_to_model(
    field: GaussianField,
    *,
    scene: Any = None,
    node: Any = None,
    volumes: Sequence[Any] = (),
    states: Sequence[Any] | None = None,
    name: str = "Gaussian field",
) -> Any:
    """A field as a model node, hidden in the views; shown, it is the Gaussians' centres coloured by intensity.

    Points are the means of the plain Gaussians (RAS mm). Point data: `factors` (N, 6), `colours`, `opacities`. Field
    data: `header` (JSON text), `slice_poses` (S, 16), `slice_shapes` (S, 2), `hull0`, `hull1`, ... (M, 4), and of a
    lattice `lattice_codes` (a zlib stream of 16-bit codes, see the header) and `lattice_table` (bz * by, bx), likewise
    `view0_codes` and so on of single series. A field that
    is a lattice only shows the centres of its bricks in their mean `colours`, at most some 100,000 of them. As .vtk, .vtp
    or within .mrb.

    Args:
        field: on any device; a lattice must have been rounded, as fits do.
        scene: default: the node's or the volumes', else Slicer's.
        node: a model node to fill again; a new one by default.
        volumes: volume nodes it was fitted to; the node refers to those still in the scene.
        states: `volume_state.states_of` of these volumes when the fit began, by which the node knows of changes since.
            Default: the volumes are still what was fitted.
        name: of a new node.
    """
    scene = scene_of(node, *volumes, scene=scene)
    mesh = _mesh(field)
    with all_or_nothing(scene, undo=True, changed=node) as added:
        node = node_to_fill(scene, added, node, "vtkMRMLModelNode", name, "A field needs a model node")
        node.SetAndObserveMesh(mesh)
        node.SetAttribute(_KIND, _FIELD)
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            display = node.GetDisplayNode()
            # Up to millions of points: visible only when somebody wants to see them.
            display.SetVisibility(False)
            display.SetActiveScalarName("colours")
            display.SetScalarVisibility(True)
            display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
        present = [volume for volume in volumes if in_scene(volume)]
        if present:
            node.RemoveNodeReferenceIDs(VOLUME_ROLE)
            for volume in present:
                node.AddNodeReferenceID(VOLUME_ROLE, volume.GetID())
            node.SetAttribute(_STATES, json.dumps(states_of(present) if states is None else list(states)))
            place_beside(node, present[0])
    return node


def volumes_of(node: Any) -> list[Any]:
    """The volume nodes that a field's node refers to and that are still there."""
    found = [
        node.GetNthNodeReference(VOLUME_ROLE, n) for n in range(node.GetNumberOfNodeReferences(VOLUME_ROLE))
    ]
    return [volume for volume in found if volume is not None]


def changes_since_fit(node: Any) -> list[str]:
    """What happened to a field's volumes since the fit began, such as "'scan' was moved"; often empty."""
    volumes = volumes_of(node)
    try:
        states = list(json.loads(node.GetAttribute(_STATES) or "[]"))
    except (RecursionError, TypeError, ValueError):
        states = [None] * len(volumes)
    if len(volumes) < len(states):
        return ["One of its volumes was removed"]
    changes = [(volume, change_of_volume(volume, state)) for volume, state in zip(volumes, states, strict=False)]
    return [f"'{volume.GetName()}' was {how}" for volume, how in changes if how]


def field_from_model(node: Any, *, device: Any = "cpu") -> GaussianField:
    """The field that `field_to_model` put into a model node.

    Raises:
        GaussianMRIError: another model; one whose points were moved (a hardened transform, a model filter) or that
            is under a transform: a field stays where the scan was.
    """
    from ..gaussians import GaussianField, files
    from ..gaussians.lattice import BRICK

    header, mesh = _header(node)
    if header.get("format") != files.FORMAT:
        raise GaussianMRIError(f"{described(node)} is not a Gaussian field.")
    if node.GetParentTransformNode() is not None:
        raise GaussianMRIError(
            f"{described(node)} is under the transform '{node.GetParentTransformNode().GetName()}'. A field stays where "
            "the scan was: take it out of the transform, and move the planes instead or fit the moved volume."
        )
    try:
        if header["version"] > files.VERSION:
            raise GaussianMRIError(
                f"{described(node)} was made by a newer version (field version {header['version']}); update GaussianMRI."
            )
        points, data, facts = mesh.GetPoints(), mesh.GetPointData(), mesh.GetFieldData()
        means = _copied(points.GetData() if points is not None else None)
        if header["means_crc"] != _checksum(means):
            raise GaussianMRIError(
                f"The points of {described(node)} were moved or changed, so it is no longer the field that was fitted. "
                "Load it again, or fit again."
            )
        parameters = np.zeros((11, 0), np.float32)
        if header.get("points") != _BRICKS:
            rows = [means.T, *(_copied(data.GetArray(name)).T for name in ("factors", "colours", "opacities"))]
            parameters = np.concatenate([np.atleast_2d(row) for row in rows]).astype(np.float32, order="C")
        lattices = {}
        # Version 2 had the one lattice's cells beside its other facts.
        cells_of = header.get("cells") or {n: header[n]["cells"] for n in ("lattice",) if n in header}
        for name, cells in cells_of.items():
            stream = np.frombuffer(zlib.decompress(_copied(facts.GetArray(f"{name}_codes")).tobytes()), np.uint8)
            low, high = stream.reshape(2, -1, BRICK, BRICK, BRICK)
            lattices[name] = files.codes_of(low, high.view(np.int8)), _copied(facts.GetArray(f"{name}_table")).reshape(cells)
        return files.field_of(
            GaussianField,
            header,
            parameters,
            [_copied(facts.GetArray(f"hull{n}")) for n in range(header["hulls"])],
            _copied(facts.GetArray("slice_poses")).reshape(-1, 4, 4),
            _copied(facts.GetArray("slice_shapes")).reshape(-1, 2),
            device,
            lattices,
        )
    except GaussianMRIError as error:
        if described(node) in str(error):
            raise
        raise GaussianMRIError(f"{described(node)} is a damaged Gaussian field. {error}") from error
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, zlib.error) as error:
        raise GaussianMRIError(f"{described(node)} is a damaged Gaussian field ({error}).") from error


def _mesh(field: GaussianField) -> Any:
    """vtkPolyData of a field."""
    from ..gaussians import files

    plain = {name: getattr(field, name) for name in ("factors", "colours", "opacities")}
    means, lattice = field.means, field.lattice
    lattices = files.lattices_of(field)
    cells_of = {name: list(own.table.shape) for name, own in lattices.items()}
    header = {**files.header_of(field), "hulls": len(field.hulls), "cells": cells_of}
    if lattice is not None and not len(means):
        header["points"] = _BRICKS
        means, colours = _bricks(lattice)
        plain = {"colours": colours}
    means = means + np.float32(0)  # files do not keep the sign of a zero coordinate
    header["means_crc"] = _checksum(means)
    mesh, points, cells = vtk.vtkPolyData(), vtk.vtkPoints(), vtk.vtkCellArray()
    points.SetData(numpy_to_vtk(means, deep=1))
    mesh.SetPoints(points)
    # One cell with every point: VTK draws only what belongs to a cell.
    ends, members = np.array([0, len(means)]), np.arange(len(means))
    cells.SetData(*(numpy_to_vtk(ids, deep=1, array_type=vtk.VTK_ID_TYPE) for ids in (ends, members)))
    mesh.SetVerts(cells)
    for name, values in plain.items():
        mesh.GetPointData().AddArray(_named(values, name))
    facts = mesh.GetFieldData()
    text = vtk.vtkStringArray()
    text.SetName("header")
    text.InsertNextValue(json.dumps(header))
    facts.AddArray(text)
    facts.AddArray(_named(field.slice_poses.reshape(-1, 16), "slice_poses"))
    facts.AddArray(_named(field.slice_shapes.reshape(-1, 2), "slice_shapes"))
    for number, hull in enumerate(field.hulls):
        facts.AddArray(_named(hull, f"hull{number}"))
    for prefix, own in lattices.items():
        # A .mrb does not compress, so that the scene does not become twice as large.
        stream = zlib.compress(b"".join(part.tobytes() for part in files.bytes_of(own.codes)), 1)
        facts.AddArray(_named(np.frombuffer(stream, np.uint8), f"{prefix}_codes"))
        facts.AddArray(_named(own.table.cpu().numpy().reshape(-1, own.table.shape[2]), f"{prefix}_table"))
    return mesh


def _bricks(lattice: GaussianLattice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What there is to see of a lattice: centres (n, 3), RAS mm, and mean colours (n,) of its bricks, or every few."""
    from ..gaussians.lattice import BRICK

    every = slice(None, None, max(1, -(-len(lattice.nodes) // _MOST_BRICKS)))
    centres = lattice.corners()[every] + (BRICK - 1) / 2
    places = transform_points(lattice.node_to_ras, centres)
    colours = lattice.nodes[every].mean(dim=(1, 2, 3)).cpu().numpy()
    return places.astype(np.float32), np.asarray(colours)


def _header(node: Any) -> tuple[dict[str, Any], Any]:
    mesh = node.GetPolyData() if is_node(node, "vtkMRMLModelNode") else None
    text: Any = mesh.GetFieldData().GetAbstractArray("header") if mesh is not None else None
    try:
        header = json.loads(text.GetValue(0))
        return dict(header), mesh
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise GaussianMRIError(
            f"A Gaussian field is needed, got {described(node)}; fit a volume, or load a scene with a field."
        ) from error


def _named(array: NDArray[Any], name: str) -> Any:
    result = numpy_to_vtk(np.ascontiguousarray(array), deep=1)
    result.SetName(name)
    return result


def _copied(array: Any) -> NDArray[Any]:
    if array is None:
        raise KeyError("an array is missing")
    return np.array(vtk_to_numpy(array))


def _checksum(means: NDArray[np.float32]) -> int:
    return zlib.crc32(np.ascontiguousarray(means + np.float32(0)).tobytes())
