"""One field of several acquisitions that is never worse than its parts on slices that were left out.

The parts are first fitted alone; each is sharp in its planes and blurred across them. Their plain mean keeps half of a
detail that only one of them shows. `detail` asks instead that the field, blurred across each part's slices, shows what the
part shows blurred like that: where only one part is sharp, it alone decides; `half` lies between. `joint` agrees with the
acquired pixels through their profile, and is the best where series agree as well as simulated ones do. All are least squares
over the nodes of one lattice (`solver.py`). Where `joint` is the best, it is better still with Gaussians blended in that are
fitted to all slices, as a single acquisition's are: `steered`.

Real series are not taken at one instant, by one coil, of a body at rest, and what gains 1.5 dB on one exam loses on
another. So which of these, the mean, or one part alone is used is decided on slices of every part that were left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..gaussians import BACKGROUND, GaussianLattice, PlaneBatch
from ..gaussians.lattice import FULL_DENSITY
from ..geometry import ImagePlane
from .intensities import Scale
from .lattice import gaussians_at_nodes, volume_of_lattice
from .parts import Overlay, Part, covering_lattice, interpolating, share_scale, strided
from .solver import Regularisation, SliceTerm, solve_lattice
from .steered import Effort, SteeredFit

#: Standard deviation of the blur across slices in which the parts are compared, in distances between slices.
BLUR = 0.35
#: Planes in which a part is compared, apart by so many of these standard deviations, and how far the blur reaches.
PLANES_PER_BLUR, REACH = 1.5, 2.2
#: The blur's samples are so many pitches apart. A field of lumbar series with one pitch takes a third more time and differs
#: by .002 dB on left-out slices.
BLUR_STEP = 2.0
DETAIL = Regularisation(smoothness=0.3, edge=0.03, pull=0.05, robust=False)
JOINT = Regularisation(smoothness=0.03, edge=0.01, pull=0.01, robust=False)
ROUNDS, ITERATIONS = 2, 6
JOINT_ITERATIONS = 8
#: Lattices of more Gaussians than this begin with the solution on one of twice the pitch, and then need a shorter one.
LARGE, LARGE_ROUNDS, LARGE_ITERATIONS = 4_000_000, 1, 4
#: Of a single acquisition with slices at angles, whose blocks agree with each other.
ANGLED = Regularisation(smoothness=0.02, edge=0.0, pull=0.2, robust=False)
#: Ways to fuse, plainest first.
FUSIONS = ("mean", "half", "detail", "joint")
#: `joint` with steered Gaussians; where `joint` is not the best of the others, this is not either.
STEERED = "steered"
#: The best weight of the steered Gaussians on simulated pairs; lattices of more nodes do without, for their time.
BLEND, LARGEST_STEERED = 0.6, 8_000_000
#: How the blend agrees with the slices again.
AFTER_STEERING = Regularisation(smoothness=0.04, edge=0.006, pull=0.02, robust=False)

Progress = Callable[[float], object]


@dataclass(frozen=True)
class Choice:
    """How parts are put together.

    Attributes:
        method: one of `FUSIONS`, "steered", or "alone": one part where it is, the others elsewhere.
        part: its number, for "alone".
    """

    method: str
    part: int | None = None

    def label(self, parts: Sequence[Part]) -> str:
        return self.method if self.part is None else f"{parts[self.part].name} alone"


class Fuser:
    """Puts parts together in several ways; what the ways have in common is computed once.

    Args:
        parts: fitted alone, in the shared scale.
        overlay: of these parts.
        progress: called with the share of a solution that is done, 0 to 1; it may raise to stop.
        seed: of steered Gaussians.
    """

    def __init__(
        self, parts: Sequence[Part], overlay: Overlay, progress: Progress | None = None, seed: int = 0
    ) -> None:
        self.parts, self.overlay, self.progress, self.seed = parts, overlay, progress, seed
        self._joint: GaussianLattice | None = None
        self._start: GaussianLattice | None = None
        self._detail: GaussianLattice | None = None
        counted = torch.zeros_like(overlay.says[0], dtype=torch.uint8)
        for say in overlay.says:
            counted += say > 0
        counted = counted > 1
        # Where only one part was acquired there is nothing to decide: the solver works on the bricks that two parts show.
        self._several = counted.reshape(len(counted), -1).any(1)
        self._shown = counted[self._several]

    def fuse(self, choice: Choice) -> GaussianLattice:
        """The fused lattice."""
        overlay = self.overlay
        if choice.part is not None:
            weights = [1.0 if n == choice.part else 1e-4 for n in range(len(self.parts))]
            return interpolating(overlay.lattice, overlay.mean(weights))
        start = self._mean()
        if choice.method == "mean" or not self._several.any():
            return start
        inner = start.part(self._several)
        if choice.method in ("joint", STEERED):
            solved = self._jointly(inner)
        else:
            solved = self._solved(inner)
        if choice.method == STEERED and len(inner) <= LARGEST_STEERED:
            solved = self._steered(solved)
        if choice.method == "half":
            solved = solved.with_nodes((solved.nodes + inner.nodes) / 2)
        # The bricks' other nodes, which one part alone shows, stay as they were.
        nodes = start.nodes.clone()
        nodes[self._several] = torch.where(self._shown, solved.nodes, inner.nodes)
        return start.with_nodes(nodes)

    def _mean(self) -> GaussianLattice:
        if self._start is None:
            self._start = interpolating(self.overlay.lattice, self.overlay.mean())
        return self._start

    def _solved(self, inner: GaussianLattice) -> GaussianLattice:
        if self._detail is None:
            terms = detail_terms(self.parts, inner, [say[self._several].float() for say in self.overlay.says])
            start = inner.with_nodes(self._coarse(inner)) if len(inner) > LARGE else inner
            self._detail = solve_lattice(inner, terms, DETAIL, *self._effort(inner), self.progress, start.nodes)
        return self._detail

    def _jointly(self, inner: GaussianLattice) -> GaussianLattice:
        if self._joint is None:
            terms = slice_terms(self.parts, inner)
            rounds = self._effort(inner)[0]
            self._joint = solve_lattice(inner, terms, JOINT, rounds, JOINT_ITERATIONS, self.progress)
        return self._joint

    def _steered(self, lattice: GaussianLattice) -> GaussianLattice:
        """A solution with Gaussians blended in that were fitted to all slices from it, in agreement with them again."""
        stacks = [
            replace(part.stack, pixels=scaled.reshape(part.stack.shape).numpy())
            for part in self.parts
            for scaled in [part.in_scale(part.stack.pixels, part.stack.planes())]
        ]
        effort, terms = Effort.of(stacks), slice_terms(self.parts, lattice)
        for number in range(effort.rounds):

            def report(share: float, number: int = number) -> None:
                if self.progress is not None:
                    self.progress((number + share) / effort.rounds)

            steered = SteeredFit(effort, 0.0, 1.0, lattice.nodes.device, self.seed)
            for done, _ in steered.run(stacks, volume_of_lattice(lattice)):
                report(0.5 * done)
            assert steered.parameters is not None
            own, _ = lattice.at_nodes(lattice)
            image, density = gaussians_at_nodes(steered.parameters, lattice)
            blended = torch.where(density > 100 * BACKGROUND, own + BLEND * (image - own), own)
            lattice = interpolating(lattice, blended)
            lattice = solve_lattice(
                lattice, terms, AFTER_STEERING, ROUNDS, JOINT_ITERATIONS, lambda share: report(0.5 + 0.5 * share)
            )
        return lattice

    def _coarse(self, inner: GaussianLattice) -> torch.Tensor:
        """Nodes to begin with: what the same solution on a lattice of twice the pitch changes of the mean is added."""
        pitch = 2 * float(inner.pitch.min())
        overlay = Overlay.of(self.parts, covering_lattice(self.parts, pitch))
        coarse = Fuser(self.parts, overlay, self.progress)
        change = coarse.fuse(Choice("detail"))
        change = change.with_nodes(change.nodes - coarse._mean().nodes)
        found, _ = change.at_nodes(inner)
        return inner.nodes + found

    @staticmethod
    def _effort(lattice: GaussianLattice) -> tuple[int, int]:
        return (LARGE_ROUNDS, LARGE_ITERATIONS) if len(lattice) > LARGE else (ROUNDS, ITERATIONS)


def angled(part: Part, overlay: Overlay, progress: Progress | None = None) -> GaussianLattice:
    """The lattice of one acquisition whose slices lie at angles: its blocks, what lies between them, all its slices."""
    start = interpolating(overlay.lattice, overlay.mean())
    return solve_lattice(start, slice_terms([part], start), ANGLED, 1, ITERATIONS, progress)


def detail_terms(parts: Sequence[Part], lattice: GaussianLattice, says: Sequence[torch.Tensor]) -> list[SliceTerm]:
    """Each part as planes parallel to its slices, blurred across them, as its own fit has them."""
    terms = []
    step = float(lattice.pitch.min())
    for part, say in zip(parts, says, strict=True):
        for block, own in zip(part.blocks, part.lattices, strict=True):
            sigma = BLUR * block.spacing
            length = float(block.positions[-1] - block.positions[0]) + block.spacing
            count = max(int(np.ceil(length / (PLANES_PER_BLUR * sigma))), 1)
            first = replace(block.plane(0), thickness=0.0)
            stride = max(1, round(step / min(block.pixel_spacing)))
            places = (np.arange(count) + 0.5) / count * length - block.spacing / 2
            planes = [strided(first, stride).offset(float(place)) for place in places]
            batch = _blurred(planes, sigma, step, lattice.nodes.device)
            target, density = own.render(batch)
            weight, _ = lattice.with_nodes(say).render(batch)
            weight *= density > 0.5 * FULL_DENSITY
            pixel = float(np.prod(block.pixel_spacing)) * stride**2
            target = part.shared(target, planes)
            terms.append(SliceTerm(batch, target, weight.clamp(0, 1) * (pixel * length / count)))
    return terms


def _blurred(planes: Sequence[ImagePlane], sigma: float, step: float, device: torch.device) -> PlaneBatch:
    """Planes, each blurred across by a Gaussian."""
    batch = PlaneBatch.from_planes(planes, device=device)
    count = max(3, int(np.ceil(2 * REACH * sigma / (BLUR_STEP * step))))
    offsets = ((np.arange(count) + 0.5) / count - 0.5) * 2 * REACH * sigma
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return replace(
        batch,
        offsets=torch.from_numpy(np.tile(offsets.astype(np.float32), (len(planes), 1))).to(device),
        weights=torch.from_numpy(np.tile((weights / weights.sum()).astype(np.float32), (len(planes), 1))).to(device),
    )


def slice_terms(parts: Sequence[Part], lattice: GaussianLattice) -> list[SliceTerm]:
    """The acquired pixels through the slice profile."""
    terms = []
    step, device = float(lattice.pitch.min()), lattice.nodes.device
    for part in parts:
        stack = part.stack
        stride = max(1, round(step / min(stack.pixel_spacing)))
        planes = [strided(plane, stride) for plane in stack.planes()]
        batch = PlaneBatch.from_planes(planes, device=device, step=step)
        pixels = stack.pixels[:, ::stride, ::stride]
        spacing = part.blocks[0].spacing if part.blocks else stack.spacing
        volume = float(np.prod(stack.pixel_spacing)) * stride**2 * spacing
        target = part.in_scale(pixels, planes).to(device)
        terms.append(SliceTerm(batch, target, volume * part.trust(planes, device)))
    return terms


def overlay_of(
    parts: Sequence[Part], anchor: int, pitch: float | None = None, shading: bool = False, levels: bool = True
) -> Overlay:
    """The parts on a lattice over all of them, in the anchor's scale; `shading`, `levels`: see `share_scale`."""
    for part in parts:
        part.scale, part.level = Scale(), None
    overlay = Overlay.of(parts, covering_lattice([parts[anchor], *parts[:anchor], *parts[anchor + 1 :]], pitch))
    share_scale(parts, overlay, anchor, shading, levels)
    return overlay


__all__ = ["FUSIONS", "STEERED", "Choice", "Fuser", "angled", "overlay_of"]
