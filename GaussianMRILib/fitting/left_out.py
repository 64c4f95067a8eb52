"""Which way of fusing helps: slices of every part are left out and predicted from the rest.

It works on a box in the middle of what the parts share, on pixels of about a millimetre and with the first guess of each
part: ways to fuse are told apart well there, for a small share of the fit's time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..gaussians import GaussianLattice, PlaneBatch
from ..gaussians.views import FULL_DEGREES
from ..geometry import ImagePlane, inside_hull
from ..stacks import SliceStack
from .fusion import FUSIONS, STEERED, Choice, Fuser, overlay_of
from .parts import Part, strided
from .problem import crop

#: Edge of the box, mm; a little more is fitted around it.
BOX_MM, MARGIN_MM = 64.0, 6.0
PITCH_MM = 1.0
FEWEST_PIXELS = 1500
#: The way to fuse that is the least of all.
PLAINEST = Choice(FUSIONS[0])
#: How much better ways look by first guesses than in whole fits, in which the parts are better: .1 to .2 dB on real series
#: those that work on the parts, .6 dB and more those that work on their noisy pixels (and gain 2 dB where they are right).
FLATTERY_DB = {"mean": 0.0, "half": 0.15, "detail": 0.15, "joint": 1.0, "steered": 1.0}
#: What left-out slices tell apart, dB.
AS_GOOD_DB = 0.02
#: A part alone has to be better than fusing by more than this: with every second slice left out, the part that they are of
#: is worth less to the others than it is in the fit.
LONE_DB = 0.5
#: A series is shown on planes like its own slices (`gaussians/views.py`) where that gains as much.
VIEW_GAIN_DB = 0.05
#: Slices that moved one by one lie in their places only for ways that work on pixels, which are flattered less there.
MOVED_FLATTERY_DB = {**FLATTERY_DB, "joint": 0.5, "steered": 0.5}
#: Ways to fuse that agree with every acquired pixel: what each series shows is in the body already.
AGREEING = ("joint", STEERED)
#: What becomes of a part's own mean squared error on left-out slices when its slices lie half as far apart, as they do in
#: the fit: -4.5 dB. It was -3.7 to -5.0 dB on six series of prostates, -.9 to -3.6 dB on four lumbar ones.
CLOSER = 0.35
#: A series has no larger share between its slices: on six series of prostates .6 to .8 was the best, by left-out slices of
#: whole fits, where up to .98 had been found.
LARGEST_SHARE = 0.8


def flattery_of(moved: bool) -> Mapping[str, float]:
    """By way to fuse; `moved`: slices were moved one by one."""
    return MOVED_FLATTERY_DB if moved else FLATTERY_DB


@dataclass(frozen=True)
class Verdict:
    """What left-out slices say.

    Attributes:
        choice: the best way to put the parts together.
        psnr: for each way its mean over parts of the PSNR on their left-out slices, dB.
        by_part: the same for each part.
        slices: left-out slices that were looked at.
        shares: for each way and part how much of the image on planes like the part's slices is best taken from its own
            fit, 0 to 1; parts about which left-out slices say nothing are absent.
        moved: see `Judge.of`.
    """

    choice: Choice
    psnr: dict[Choice, float]
    by_part: dict[Choice, list[float]]
    slices: int
    shares: dict[Choice, dict[int, float]]
    moved: bool = False

    @classmethod
    def of(
        cls,
        scores: dict[Choice, list[float]],
        slices: int,
        shares: dict[Choice, dict[int, float]] | None = None,
        moved: bool = False,
    ) -> Verdict:
        """From the PSNR of each way on each part's slices.

        A way that gains on one part's slices what it loses on another's is no gain for who looks at the other: it has to be
        as good as the plain mean, if that was tried, on the slices of every part. See also `FLATTERY_DB`. Where nothing
        can be compared it is the plain mean.
        """
        flattery = flattery_of(moved)
        psnr = {choice: float(np.mean(values)) for choice, values in scores.items()}
        mean = np.array(scores.get(PLAINEST, [-np.inf]))
        fair = [c for c in psnr if c.part is None and np.all(np.array(scores[c]) >= mean - AS_GOOD_DB)]
        best = max(fair, key=lambda choice: psnr[choice] - flattery[choice.method], default=PLAINEST)
        alone = max((choice for choice in psnr if choice.part is not None), key=lambda choice: psnr[choice])
        if psnr[alone] > psnr[best] + LONE_DB:
            best = alone
        return cls(best, psnr, scores, slices, shares or {}, moved)

    def with_more(self, other: Verdict) -> Verdict:
        """A verdict on more ways, which were judged on the same slices."""
        by_part, shares = {**self.by_part, **other.by_part}, {**self.shares, **other.shares}
        return Verdict.of(by_part, self.slices, shares, self.moved)

    @property
    def on_slices(self) -> bool:
        """Whether a view is its part's slice where one was acquired. With `AGREEING` ways the body is that slice already,
        and slices that moved one by one do not lie where the part's own fit has them."""
        return not self.moved and self.choice.method not in AGREEING


class Judge:
    """Predicts left-out slices of every part from the rest; what ways to do so have in common is computed once.

    Attributes:
        tests: one for each part with slices to leave out.
    """

    def __init__(self, tests: list[_Test], anchor: int, moved: bool = False) -> None:
        self.tests, self.anchor, self.moved = tests, anchor, moved

    @classmethod
    def of(
        cls, stacks: Sequence[SliceStack], fit_alone: Callable[[Part], None], anchor: int, moved: bool = False
    ) -> Judge | None:
        """None where no box holds slices to leave out.

        Args:
            stacks: one a part, where they are thought to be.
            fit_alone: fills in `Part.lattices`, quickly.
            anchor: number of the part whose intensities are kept.
            moved: whether each slice was moved on its own, see `Part.of`.
        """
        centre = shared_centre(stacks)
        if centre is None:
            return None
        box = np.stack([centre - BOX_MM / 2, centre + BOX_MM / 2], axis=1)
        wide = np.stack([box[:, 0] - MARGIN_MM, box[:, 1] + MARGIN_MM], axis=1)
        cropped = [crop(stack, wide) for stack in stacks]
        if any(part is None or np.ptp(part.pixels) == 0 for part in cropped):
            return None
        parts = [Part.of(stack, moved=moved) for stack in cropped if stack is not None]
        for part in parts:
            fit_alone(part)
        tests = []
        for number, part in enumerate(parts):
            held = _held([part.stack] if moved else part.groups)
            if held is None:
                continue
            rest, left_out = held
            others = [replace(other) for other in parts]  # the scale of each is the test's own
            others[number] = Part.of(rest, part.low, part.high, moved)
            views = [_View.of(plane, pixels, box, others) for plane, pixels in left_out]
            views = [view for view in views if view.says_something]
            if views:
                fit_alone(others[number])
                tests.append(_Test(number, others, views))
        return cls(tests, anchor, moved) if tests else None

    def verdict(
        self,
        methods: Sequence[str] = FUSIONS,
        *,
        shading: bool = False,
        levels: bool = True,
        progress: Callable[[float], object] | None = None,
    ) -> Verdict:
        """What left-out slices say of ways to fuse and of each part alone.

        Args:
            methods: ways that are tried.
            shading, levels: see `parts.share_scale`.
            progress: called with the share done, 0 to 1; what it raises ends this.
        """
        count = len(self.tests[0].parts)
        choices = [Choice(method) for method in methods] + [Choice("alone", n) for n in range(count)]
        scores: dict[Choice, list[float]] = {choice: [] for choice in choices}
        found: dict[Choice, dict[int, list[float]]] = {choice: {} for choice in choices}
        for done, test in enumerate(self.tests):
            fuser = test.fuser(self.anchor, shading, levels)
            device = fuser.overlay.lattice.nodes.device
            batch = PlaneBatch.from_planes([view.plane for view in test.views], device=device, step=PITCH_MM)
            part, images = test.parts[test.number], {}
            for n, choice in enumerate(choices):
                images[choice] = _pixels(fuser.fuse(choice), batch, test.views, part)
                scores[choice].append(_score(images[choice], test.views))
                if progress is not None:
                    progress((done + (n + 1) / len(choices)) / len(self.tests))
            for choice in choices:
                flattery = flattery_of(self.moved).get(choice.method, 0.0)
                for n, say in self._witnesses(choice, test):
                    share = _share(images[choice], images[Choice("alone", n)], test.views, say, flattery)
                    found[choice].setdefault(n, []).append(share)
        shares = {choice: {n: float(np.mean(some)) for n, some in own.items()} for choice, own in found.items()}
        return Verdict.of(scores, sum(len(test.views) for test in self.tests), shares, self.moved)

    def _witnesses(self, choice: Choice, test: _Test) -> list[tuple[int, float | None]]:
        """Parts whose share a test tells, with what `_share` has to know of them.

        Where slices moved one by one, and of ways that agree with all pixels, a part's own left-out slices would say
        nothing of what it is worth with all of its slices: those of another part of the same direction do.
        """
        if self.moved or choice.method in AGREEING:
            normal = test.parts[test.number].stack.normal
            near = np.cos(np.deg2rad(FULL_DEGREES))
            return [
                (n, None)
                for n, part in enumerate(test.parts)
                if n != test.number and abs(float(part.stack.normal @ normal)) >= near
            ]
        say = 1 / len(test.parts) if choice.part is None else float(choice.part == test.number)
        return [(test.number, say)]


@dataclass(eq=False)
class _Test:
    """A part without every second slice, the other parts, and the left-out slices.

    Attributes:
        number: of that part.
        parts: all, fitted alone.
        views: the left-out slices.
    """

    number: int
    parts: list[Part]
    views: list[_View]
    _last: tuple[tuple[bool, bool], Fuser] | None = None

    def fuser(self, anchor: int, shading: bool, levels: bool) -> Fuser:
        """The last one again if it is asked for; parts have one scale at a time."""
        if self._last is None or self._last[0] != (shading, levels):
            overlay = overlay_of(self.parts, anchor, PITCH_MM, shading, levels)
            self._last = ((shading, levels), Fuser(self.parts, overlay))
        return self._last[1]


def shared_centre(stacks: Sequence[SliceStack], step_mm: float = 4.0) -> NDArray[np.float64] | None:
    """Middle (3,), RAS mm, of what most of the stacks show, at least two of them; None where no two meet."""
    hulls = [stack.hulls() for stack in stacks]
    corners = np.concatenate([plane.corners() for stack in stacks for plane in stack.planes()])
    low, high = corners.min(axis=0), corners.max(axis=0)
    axes = [np.arange(a, b + step_mm, step_mm) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    count = np.zeros(len(points), int)
    for own in hulls:
        count += np.any([inside_hull(hull, points) for hull in own], axis=0)
    most = count.max(initial=0)
    if most < 2:
        return None
    found = points[count == most]
    # The point that is nearest to their mean, so that it lies in one of several places rather than between them.
    return np.asarray(found[np.argmin(np.linalg.norm(found - found.mean(axis=0), axis=1))])


def _held(blocks: Sequence[SliceStack]) -> tuple[SliceStack, list[tuple[ImagePlane, NDArray[np.float32]]]] | None:
    """A part without every second slice of its blocks, first and last ones kept, and those slices."""
    kept, left_out = [], []
    for block in blocks:
        held = list(range(1, len(block.pixels) - 1, 2))
        left_out += [(block.plane(k), block.pixels[k]) for k in held]
        kept.append(block.subset([k for k in range(len(block.pixels)) if k not in held]))
    if not left_out:
        return None
    rest = replace(
        kept[0],
        pixels=np.concatenate([block.pixels for block in kept]),
        ijk_to_ras=np.concatenate([block.ijk_to_ras for block in kept]),
        slice_thickness=np.concatenate([block.slice_thickness for block in kept]),
        source={},
    )
    return rest, left_out


@dataclass(frozen=True, eq=False)
class _View:
    """A left-out slice: its plane and pixels, about a millimetre apart, and where every part says something."""

    plane: ImagePlane
    pixels: NDArray[np.float64]
    valid: NDArray[np.bool_]

    @classmethod
    def of(
        cls, plane: ImagePlane, pixels: NDArray[np.float32], box: NDArray[np.float64], parts: Sequence[Part]
    ) -> _View:
        stride = max(1, round(PITCH_MM / min(plane.spacing) / 2))
        view, coarse = strided(plane, stride), pixels[::stride, ::stride]
        points = view.points()
        valid: NDArray[np.bool_] = np.all((points >= box[:, 0]) & (points <= box[:, 1]), axis=-1)
        for part in parts:
            valid &= part.stack.inside(points)
        return cls(view, coarse.astype(np.float64), valid)

    @property
    def says_something(self) -> bool:
        """Whether it has enough pixels, and of several values: an empty slice can be predicted by anything."""
        return bool(self.valid.sum() >= FEWEST_PIXELS and np.ptp(self.pixels[self.valid]) > 0)


Images = list[NDArray[np.float64]]


def _pixels(lattice: GaussianLattice, batch: PlaneBatch, views: Sequence[_View], part: Part) -> Images:
    """What a lattice shows of each view's pixels, (valid,) each.

    As they were acquired, with the shading of their part: so every scale has the same to predict.
    """
    image, _ = lattice.render(batch)
    image = part.own(image, [view.plane for view in views])
    split = batch.split(image)
    return [predicted.cpu().numpy()[view.valid].astype(np.float64) for predicted, view in zip(split, views, strict=True)]


def _score(images: Images, views: Sequence[_View]) -> float:
    """Mean PSNR, dB over each slice's 99.5 percentile, after a line through the intensities."""
    found = []
    for u, view in zip(images, views, strict=True):
        v = view.pixels[view.valid]
        slope, offset = np.polyfit(u, v, 1) if u.std() > 0 else (0.0, v.mean())
        error = float(np.mean((slope * u + offset - v) ** 2))
        found.append(10 * np.log10(float(np.percentile(v, 99.5)) ** 2 / max(error, 1e-12)))
    return float(np.mean(found))


def _share(fused: Images, own: Images, views: Sequence[_View], say: float | None, flattery: float) -> float:
    """The share of a part's own fit, beside the fused one, that is best halfway between its slices; 0 to `LARGEST_SHARE`.

    That is the least-squares one, with the errors that both have with all of the part's slices (see `CLOSER`); those that
    the other parts cause stay as they are.

    Args:
        fused, own: pixels of each left-out slice by the fused fit and by the part alone.
        say: of the part in the fused fit, 0 to 1; None: none of the part's slices was left out.
        flattery: dB by which first guesses flatter the fused fit; it counts where none of the part's slices was left out,
            since the part is then as it is in the fit.
    """
    f, s, truth = (
        np.concatenate([image - image.mean() for image in images])
        for images in (fused, own, [view.pixels[view.valid] for view in views])
    )
    if not (f @ f > 0 and s @ s > 0 and f @ truth > 0):
        return 0.0
    slope = (f @ truth) / (f @ f)
    error, alone = truth - slope * f, truth - slope * np.sqrt((f @ f) / (s @ s)) * s
    if say is None:
        closer, error = alone, error * 10 ** (flattery / 20)
    else:
        closer = np.sqrt(CLOSER) * alone
        error = error - say * (alone - closer)
    apart = error - closer
    if not apart @ apart > 1e-9 * (truth @ truth):  # one and the same image
        return 0.0
    share = float(np.clip((error @ apart) / (apart @ apart), 0, LARGEST_SHARE))
    left = error - share * apart
    return share if 10 * np.log10((error @ error) / max(float(left @ left), 1e-12)) > VIEW_GAIN_DB else 0.0
