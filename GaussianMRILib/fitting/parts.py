"""What several acquisitions say of one body: each fitted alone, all on the nodes of one lattice, in one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..gaussians import GaussianLattice
from ..gaussians.lattice import FULL_DENSITY
from ..geometry import ImagePlane, inside_hull
from ..interruption import checkpoint
from ..stacks import SliceStack
from ..volumes import ScatteredSlices, intensity_range
from .intensities import Scale, find_scale
from .levels import Level, find_levels

#: A part fades out towards the faces of its hull over one distance between slices, and counts this much at them.
FADE_AT_BORDER = 0.25
#: Lattices of at most so many Gaussians get pitches of this share of a pixel: with pitches of a pixel, two simulated stacks
#: fused lose .1 dB (lumbar spine) and .5 dB (brain).
SMALL_LATTICE, FINER = 3_000_000, 0.75
#: Bricks whose nodes are looked at together where RAS points are needed.
BRICKS_AT_ONCE = 20_000


@dataclass(eq=False)
class Part:
    """One acquisition: a stack, with several blocks of parallel slices where its slices are angled.

    Attributes:
        stack: as it was acquired, where it was moved to.
        low, high: its intensities that are normalised to 0 and 1.
        groups: its runs of parallel slices.
        blocks: those of them with two slices or more, which can be fitted by themselves.
        lattices: the fit of each block alone, normalised.
        scale: from its normalised intensities to those that all parts share.
        level: what becomes of these beside the other parts.
    """

    stack: SliceStack
    low: float
    high: float
    groups: list[SliceStack]
    blocks: list[SliceStack] = field(default_factory=list)
    lattices: list[GaussianLattice] = field(default_factory=list)
    scale: Scale = field(default_factory=Scale)
    level: Level | None = None

    @classmethod
    def of(
        cls, stack: SliceStack, low: float | None = None, high: float | None = None, moved: bool = False
    ) -> Part:
        """A part without fits; its own range of intensities by default.

        Args:
            moved: each slice was moved on its own. They are then fitted alone as parallel slices in their mean places,
                and only the agreement with slices knows where each is.
        """
        if low is None or high is None:
            low, high = intensity_range(stack.pixels)
        groups = stack.blocks()
        if moved and len(groups) > 1:
            return cls(stack, low, high, groups, [in_mean_places(stack)])
        return cls(stack, low, high, groups, [group for group in groups if len(group.pixels) > 1])

    @property
    def name(self) -> str:
        return self.stack.name

    @property
    def pixels(self) -> int:
        return int(self.stack.pixels.size)

    def in_scale(self, pixels: NDArray[np.float32], planes: Sequence[ImagePlane]) -> torch.Tensor:
        """(total,) pixels of it on planes, in the scale that all parts share."""
        normalised = torch.from_numpy(((pixels.reshape(-1) - self.low) / (self.high - self.low)).astype(np.float32))
        return self.shared(normalised, planes)

    def shared(self, values: torch.Tensor, planes: Sequence[ImagePlane]) -> torch.Tensor:
        """(total,) of its normalised values on planes, as all parts share them."""
        values = self.scale.of_planes(values, planes)
        if self.level is not None:
            gain, base, _ = self.level.on_planes(planes).to(values.device)
            values = values.mul_(gain).add_(base)
        return values

    def own(self, values: torch.Tensor, planes: Sequence[ImagePlane]) -> torch.Tensor:
        """The inverse of `shared`."""
        if self.level is not None:
            gain, base, _ = self.level.on_planes(planes).to(values.device)
            values = (values - base).div_(gain)
        return self.scale.back_on_planes(values, planes)

    def trust(self, planes: Sequence[ImagePlane], device: torch.device) -> torch.Tensor | float:
        """(total,) share of its say that it keeps on planes beside the other parts, on a device."""
        return 1.0 if self.level is None else self.level.on_planes(planes)[2].to(device)

    def on(self, lattice: GaussianLattice) -> tuple[torch.Tensor, torch.Tensor]:
        """Its values at the nodes of a lattice, in the shared scale, and its say there, 0 to 1; both (B, 8, 8, 8)."""
        top, say = torch.zeros_like(lattice.nodes), torch.zeros_like(lattice.nodes)
        for block, own in zip(self.blocks, self.lattices, strict=True):
            hull = block.hull()
            seen = lattice.bricks_in(hull)
            near = lattice.part(seen)
            fade = near.depth_inside(hull, most=block.spacing).div_(block.spacing).add_(FADE_AT_BORDER).clamp_(0, 1)
            values, weight = own.at_nodes(near)
            fade *= weight > 0.5 * FULL_DENSITY
            top[seen] += fade * values
            say[seen] += fade
        values = top / say.clamp(min=1e-6)
        if sum(len(block.pixels) for block in self.blocks) < len(self.stack.pixels):
            self._fill_wedges(lattice, values, say)
        values, say = self.scale.of_nodes(values, lattice), say.clamp_(max=1)
        self.levelled(values, say, lattice)
        return values, say

    def levelled(self, values: torch.Tensor, say: torch.Tensor, lattice: GaussianLattice) -> None:
        """Change values in the shared scale, and their say, at a lattice's nodes as the level has it."""
        if self.level is not None:
            for bricks, (gain, base, trust) in self.level.at_nodes(lattice):
                values[bricks] = values[bricks].mul_(gain).add_(base)
                say[bricks] = say[bricks].mul_(trust.to(say.dtype))

    def _fill_wedges(self, lattice: GaussianLattice, values: torch.Tensor, say: torch.Tensor) -> None:
        """Between angled blocks, where no block's slab reaches, the nearest slices stand in."""
        # A region of one block has no wedge; blocks with gaps between them are regions of their own.
        hulls = [region.hull() for region in self.stack.regions() if len(region.blocks()) > 1]
        if not hulls:  # slices that stand alone, far from all others
            return
        between = ScatteredSlices(self.stack)
        open_ = (say <= 0).reshape(len(say), -1).any(1)
        open_ &= torch.stack([lattice.bricks_in(hull) for hull in hulls]).any(0)
        for part in torch.nonzero(open_)[:, 0].split(BRICKS_AT_ONCE):
            checkpoint()
            points = lattice.points(bricks=part.cpu().numpy())
            scanned = np.any([inside_hull(hull, points) for hull in hulls], axis=0)
            wedge = (say[part] <= 0).cpu().numpy() & scanned
            if wedge.any():
                found = (between.values(points[wedge]) - self.low) / (self.high - self.low)
                mask = torch.from_numpy(wedge).to(values.device)
                chosen = values[part]
                chosen[mask] = torch.from_numpy(found.astype(np.float32)).to(values.device)
                values[part] = chosen
                share = say[part]
                share[mask] = FADE_AT_BORDER
                say[part] = share


def in_mean_places(stack: SliceStack) -> SliceStack:
    """A stack whose slices were moved one by one, as parallel slices at equal distances in its mean pose."""
    poses, count = stack.ijk_to_ras, len(stack.pixels)
    left, _, right = np.linalg.svd((poses[:, :3, :3] / np.linalg.norm(poses[:, :3, :3], axis=1, keepdims=True)).mean(0))
    axes = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    lengths = np.linalg.norm(poses[0, :3, :2], axis=0)
    middles = np.stack([plane.center for plane in stack.planes()])
    step = np.polyfit(np.arange(count), (middles - middles.mean(0)) @ axes[:, 2], 1)[0]
    _, rows, columns = stack.shape
    nominal = np.tile(np.eye(4), (count, 1, 1))
    nominal[:, :3, :3] = axes
    nominal[:, :3, :2] *= lengths
    along = (np.arange(count) - (count - 1) / 2)[:, None] * step * axes[:, 2]
    corner = nominal[0, :3, 0] * (columns - 1) / 2 + nominal[0, :3, 1] * (rows - 1) / 2
    nominal[:, :3, 3] = middles.mean(0) + along - corner
    return replace(stack, ijk_to_ras=nominal)


def covering_lattice(parts: Sequence[Part], pitch: float | None = None) -> GaussianLattice:
    """An empty lattice with equal pitches along the axes of the first part's first slice, over all that was scanned.

    It is on the device of the parts' own lattices, on the processor before they have any.

    Args:
        pitch: mm; default: the smallest pixel of all parts, and less where the lattice is small.
    """
    first = parts[0].stack.plane(0)
    axes = np.stack([first.i_axis, first.j_axis, first.normal], axis=1)
    hulls = [hull for part in parts for hull in part.stack.hulls()]
    pixel = min(min(group.pixel_spacing) for part in parts for group in part.groups)
    device = next((own.nodes.device for part in parts for own in part.lattices), torch.device("cpu"))
    lattice = GaussianLattice.covering(hulls, axes * (pixel if pitch is None else pitch), device=device)
    if pitch is None and len(lattice) <= SMALL_LATTICE:
        lattice = GaussianLattice.covering(hulls, axes * (FINER * pixel), device=device)
    return lattice


@dataclass(eq=False)
class Overlay:
    """Several parts on the nodes of one lattice.

    Attributes:
        lattice: whose nodes are 0.
        values, says: one (B, 8, 8, 8) a part: what it shows there, in the shared scale, and its say, 0 to 1 (half
            precision, since there are many nodes).
    """

    lattice: GaussianLattice
    values: list[torch.Tensor]
    says: list[torch.Tensor]

    @classmethod
    def of(cls, parts: Sequence[Part], lattice: GaussianLattice) -> Overlay:
        found = [part.on(lattice) for part in parts]
        return cls(lattice, [values for values, _ in found], [say.half() for _, say in found])

    def mean(self, weights: Sequence[float] | None = None) -> torch.Tensor:
        """(B, 8, 8, 8): the mean of the parts where they are, the median of all that elsewhere."""
        found = torch.zeros_like(self.lattice.nodes)
        seen = torch.zeros_like(found, dtype=torch.bool)
        for first in range(0, len(found), BRICKS_AT_ONCE):
            some = slice(first, first + BRICKS_AT_ONCE)
            top, bottom = found[some], torch.zeros_like(found[some])
            for n, (values, say) in enumerate(zip(self.values, self.says, strict=True)):
                share = say[some].float() if weights is None else say[some].float() * weights[n]
                top += share * values[some]
                bottom += share
            top /= bottom.clamp(min=1e-12)
            torch.gt(bottom, 0, out=seen[some])
        if not seen.all():
            step = max(1, found.numel() // 1_000_000)
            known = found.reshape(-1)[::step][seen.reshape(-1)[::step]]
            found[~seen] = known.median() if len(known) else 0.0
        return found


def share_scale(
    parts: Sequence[Part], overlay: Overlay, anchor: int, shading: bool = False, levels: bool = True
) -> None:
    """Bring every part to the anchor's intensities, and the overlay with it.

    Args:
        parts: whose scales are 1 yet.
        shading: whether a part's gain may vary over the body.
        levels: whether brightness is brought together neighbourhood by neighbourhood, see `levels.py`.
    """
    for n, part in enumerate(parts):
        if n == anchor:
            continue
        both = (overlay.says[n] > 0) & (overlay.says[anchor] > 0)
        found = find_scale(overlay.values[n], overlay.values[anchor], both, overlay.lattice, shading)
        if found is not None:
            part.scale = found
            overlay.values[n] = found.of_nodes(overlay.values[n], overlay.lattice)
    if levels and len(parts) > 1:
        found_levels = find_levels(overlay.lattice, overlay.values, overlay.says)
        for part, level, values, say in zip(parts, found_levels, overlay.values, overlay.says, strict=True):
            part.level = level
            part.levelled(values, say, overlay.lattice)


def interpolating(lattice: GaussianLattice, samples: torch.Tensor, iterations: int = 3) -> GaussianLattice:
    """The lattice whose image at its own nodes is `samples` (B, 8, 8, 8).

    Its image is a mild blur of its colours, which a few steps of x += samples - image undo.
    """
    found = lattice.with_nodes(samples.clone())
    for _ in range(iterations):
        image = found.at_nodes(found)[0]  # in place from here: these are the largest arrays of a large fit
        found = found.with_nodes(image.neg_().add_(samples).add_(found.nodes))
    return found


def strided(plane: ImagePlane, stride: int) -> ImagePlane:
    """Every `stride`-th row and column of a plane, from the first ones on."""
    matrix = plane.ijk_to_ras.copy()
    matrix[:3, :2] *= stride
    return ImagePlane(matrix, (-(-plane.shape[0] // stride), -(-plane.shape[1] // stride)), thickness=plane.thickness)
