"""Rigid registration of the stacks of one exam, and of the blocks of parallel slices that a stack may have.

Patients move between series. The stack with the most pixels stays; every other series is moved to where local NCC
with the ones already placed is largest, then to where it is with all of them, then each of its blocks on its own.
Only what raises the NCC of windows that the motion was *not* found with is believed: windows are split into two
halves, each is moved by what the other one found, and what they gain must stand out from its scatter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..stacks import SliceStack, check_same_frame
from .registration_score import RADIUS, Found, Pair, Score, Windows, climb, weighted_ncc
from .registration_views import CENTRAL_MM, Block, BlockVolume, View, blocks_of, common_middle

#: Pitch in mm, standard deviation of a Gaussian in mm, and most windows a view, coarse to fine.
LEVELS = ((3.0, 1.5, 400), (2.0, 0.7, 700), (1.25, 0.0, 1000))
#: Views that have their full number of windows; more of them share it.
SHARED = 4
#: Distance between the shifts that the search begins at, mm, and how many of the best are followed.
GRID_MM, FOLLOWED = 4.0, 3
#: Where turns beyond this (degrees) are possible, the search begins at turns too.
LARGE_TURN = 10.0
#: Windows that the search looks at.
SEARCHED = 500
#: Fewer windows than this cannot place a block.
FEWEST_WINDOWS = 40
#: A motion must raise the NCC by this part of what it lacks of 1, and by this many standard errors, on windows that it
#: was not found with.
SMALLEST_GAIN, SIGMAS = 0.03, 3.0
#: The same for turns over a shift alone, and for a block over its series.
SMALLEST_DETAIL_GAIN = 0.01
#: The middle's own motion is looked at where it differs from that of all windows by more than this, mm.
LARGEST_DISCORD_MM, MIDDLE_SIGMAS = 0.7, 1.5
#: Below this NCC two stacks do not show the same thing.
LOWEST_NCC = 0.15


ALL: NDArray[np.bool_] = np.ones(6, bool)
SHIFT: NDArray[np.bool_] = np.arange(6) >= 3


@dataclass(frozen=True)
class Reach:
    """How far something may move, and what is usual: limits and standard deviations, mm and degrees."""

    shift_mm: float
    turn_degrees: float
    usual_shift_mm: float
    usual_turn_degrees: float

    @property
    def spread(self) -> NDArray[np.float64]:
        """(6,) standard deviations of the parameters."""
        return np.r_[[np.radians(self.usual_turn_degrees) * RADIUS] * 3, [self.usual_shift_mm] * 3]

    def holds(self, motion: NDArray[np.float64], centre: NDArray[np.float64]) -> bool:
        """Whether a motion (4, 4) lies within 98 % of the limits."""
        shift = motion[:3, :3] @ centre + motion[:3, 3] - centre
        return bool(
            np.abs(shift).max() <= 0.98 * self.shift_mm and turn_degrees(motion) <= 0.98 * self.turn_degrees
        )


STACKS = Reach(10.0, 8.0, 5.0, 3.0)
BLOCKS = Reach(4.0, 4.0, 1.5, 1.0)


@dataclass(frozen=True)
class Registration:
    """Moved stacks, and how they were moved.

    Attributes:
        stacks: as given, with new poses.
        motions: motions[n][b] is the (4, 4) rigid motion, RAS mm, that the poses of block b of stack n were
            multiplied by from the left.
        report: JSON types: the anchor, and for each stack and block its slices, shift (mm, towards R, A, S, at
            the block's middle), turn (degrees), local NCC before and after, whether a motion was accepted, and
            a sentence.
    """

    stacks: list[SliceStack]
    motions: list[list[NDArray[np.float64]]]
    report: dict[str, Any]


def register_stacks(
    stacks: Sequence[SliceStack],
    *,
    progress: Callable[[float], object] | None = None,
    reach: Reach = STACKS,
    blocks: Reach | None = BLOCKS,
    middle: bool = True,
    seed: int = 0,
) -> Registration:
    """Move stacks of one contrast onto each other.

    Args:
        stacks: one or more; a series that the reader has split into blocks is recognised by its UID.
        progress: called with the share done, 0 to 1; what it raises ends the registration.
        reach: of a stack.
        blocks: of a block about its series' motion; None keeps series in one piece.
        middle: where the middle of the exam clearly wants another shift than its surroundings, it decides.
            Otherwise all windows do.
        seed: of the choice of windows.

    Raises:
        GaussianMRIError: the stacks have different frames of reference.
    """
    check_same_frame(stacks)
    return _Registrar(stacks, progress or (lambda share: None), reach, blocks, middle, seed).run()


def turn_degrees(motion: NDArray[np.float64]) -> float:
    """Angle of a rigid motion (4, 4)."""
    from scipy.spatial.transform import Rotation

    return float(np.degrees(Rotation.from_matrix(motion[:3, :3]).magnitude()))


@dataclass
class _Verdict:
    """What became of a motion: the accepted one (identity if none), NCC before and after, and why."""

    motion: NDArray[np.float64]
    before: float | None
    after: float | None
    accepted: bool
    note: str
    around: NDArray[np.float64] | None = None  # the motion of all windows where the middle's was taken


class _Registrar:
    def __init__(
        self,
        stacks: Sequence[SliceStack],
        progress: Callable[[float], object],
        reach: Reach,
        block_reach: Reach | None,
        middle: bool,
        seed: int,
    ) -> None:
        self.stacks, self.progress = list(stacks), progress
        self.reach, self.block_reach, self.seed = reach, block_reach, seed
        self.middle = middle
        self.blocks: list[Block] = blocks_of(stacks)
        self.poses = [np.eye(4) for _ in self.blocks]
        self.groups = sorted({block.group for block in self.blocks})
        largest = max(
            range(len(self.blocks)), key=lambda b: (self.blocks[b].slices.pixels.size, -b), default=0
        )
        self.anchor = largest
        self.volumes: dict[tuple[int, int], BlockVolume] = {}
        self.verdicts: dict[int, _Verdict] = {}
        self.done, self.todo = 0.0, 1

    # ---- order of work

    def run(self) -> Registration:
        self.progress(0.0)
        anchor = self.blocks[self.anchor].group if self.blocks else -1
        others = [g for g in self.groups if g != anchor]
        split = [g for g in self.groups if self.block_reach and len(self._members(g)) > 1] if others else []
        self.todo = len(others) * (3 if len(others) > 1 else 2) + sum(len(self._members(g)) for g in split)
        near = {g: self._overlap(g, anchor) for g in others}
        placed = {anchor}
        for g in sorted(others, key=lambda g: (-near[g], g)):
            self._place_group(g, placed, coarse=True)
            placed.add(g)
        if len(others) > 1:
            for g in sorted(others, key=lambda g: (-near[g], g)):
                self._place_group(g, set(self.groups), coarse=self._is_lost(g))
        self.common = list(self.poses)
        for g in split:
            for b in self._members(g):
                if b != self.anchor:
                    self._place_block(b)
                self._advance()
        self.progress(1.0)
        return self._result()

    def _is_lost(self, group: int) -> bool:
        """Whether a series agrees with the others far less than they do among themselves: it is searched anew."""
        after = {b: verdict.after or 0.0 for b, verdict in self.verdicts.items()}
        return after[self._members(group)[0]] < 0.6 * float(np.median(list(after.values())))

    def _members(self, group: int) -> list[int]:
        return [b for b, block in enumerate(self.blocks) if block.group == group]

    def _advance(self, parts: float = 1.0) -> None:
        self.done += parts
        self.progress(min(self.done / max(self.todo, 1), 1.0))

    def _overlap(self, group: int, other: int) -> int:
        """Windows that two series share."""
        score = self._score(0, self._members(group), {other}, np.eye(4), 0.0)
        return int(score.windows(np.zeros(6)).compared.sum())

    # ---- scores

    def _volume(self, level: int, block: int) -> BlockVolume:
        if (level, block) not in self.volumes:
            self.volumes[level, block] = BlockVolume(self.blocks[block], LEVELS[level][0])
        return self.volumes[level, block]

    def _score(
        self, level: int, moved: list[int], against: set[int], motion: NDArray[np.float64], reach: float
    ) -> Score:
        """Views as they are where the moved blocks have `motion`; the score itself begins without it."""
        _, smooth, most = LEVELS[level]
        pairs = []
        several = max(sum(block.group in against for block in self.blocks) - 1, 1)
        most = most * SHARED // max(SHARED, 2 * several)
        for b in moved:
            for o, other in enumerate(self.blocks):
                if other.group == self.blocks[b].group or other.group not in against:
                    continue
                pose = motion @ self.poses[b]
                middle = common_middle(self.blocks[b], other, pose, self.poses[o])
                for fixed, moving, here, there in ((b, o, pose, self.poses[o]), (o, b, self.poses[o], pose)):
                    native = np.linalg.inv(here)
                    view = View(
                        self._volume(level, fixed),
                        self._volume(level, moving),
                        np.linalg.inv(there) @ here,
                        reach,
                        most,
                        smooth,
                        native[:3, :3] @ middle + native[:3, 3],
                        self.seed,
                    )
                    if len(view.f):
                        pairs.append(Pair(fixed, moving, view, middle))
        return Score(pairs, self.poses, moved)

    # ---- series

    def _place_group(self, group: int, against: set[int], coarse: bool) -> None:
        members = self._members(group)
        before = self.verdicts.get(members[0])
        tracks = [self.poses[members[0]].copy()] * 2  # by all windows, and by the central ones
        for b in members:
            self.poses[b] = np.eye(4)
        for level in range(0 if coarse else len(LEVELS) - 1, len(LEVELS)):
            reach = self.reach.shift_mm if level == 0 else 2.0
            score = self._score(level, members, against, tracks[0], reach)
            if len(score.centres) < FEWEST_WINDOWS // (3 if level == 0 else 1):
                continue
            tracks[0] = self._find(score, tracks[0], level, ALL)
            part = score.part(score.central(CENTRAL_MM))
            if self.middle and len(part.centres) >= FEWEST_WINDOWS:
                tracks[1] = self._find(part, _turned_as(tracks[0], tracks[1], score.centre), level, SHIFT)
            self._advance(1 / len(LEVELS) if coarse else 0.5)
        score, motion, free, note = self._choose(score, *tracks)
        verdict = self._judge(score, motion, self.reach, SMALLEST_GAIN, free)
        verdict.note += note
        verdict.around = tracks[0] if note else None
        if verdict.before is None and before is not None:
            verdict = before
        for b in members:
            self.poses[b] = verdict.motion
            self.verdicts[b] = verdict
        self._advance()

    def _find(
        self, score: Score, motion: NDArray[np.float64], level: int, free: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        start = score.parameters(motion)
        if level == 0:
            return score.motion(self._search(score, start, free).parameters)
        return score.motion(climb(score, start, self.reach.spread, free).parameters)

    def _choose(
        self, score: Score, everywhere: NDArray[np.float64], centre: NDArray[np.float64]
    ) -> tuple[Score, NDArray[np.float64], NDArray[np.bool_], str]:
        """The motion of all windows, unless the central ones clearly want another.

        Fat lies where its frequency puts it, slices of it included (4 mm at 3 T), joints bend and organs slide:
        what is round about can be displaced by several millimetres when the middle is in place.
        """
        part = score.part(score.central(CENTRAL_MM))
        distance = np.linalg.norm(
            (everywhere[:3, :3] - centre[:3, :3]) @ score.centre + everywhere[:3, 3] - centre[:3, 3]
        )
        if not self.middle or len(part.centres) < FEWEST_WINDOWS or distance < LARGEST_DISCORD_MM:
            return score, everywhere, ALL, ""
        trial = _Trial(part, part.parameters(centre), SHIFT, self.reach)
        gain, error = trial.beyond(part.windows(part.parameters(everywhere)))
        ncc = part.windows(part.parameters(centre)).ncc
        whole = score.windows(score.parameters(everywhere)).ncc
        if gain <= max(SMALLEST_GAIN * (1 - ncc), MIDDLE_SIGMAS * error) or ncc < 0.6 * whole:
            return score, everywhere, ALL, ""
        note = f"; by the middle: its surroundings are {distance:.1f} mm away (fat's shift, or other motion)"
        return part, centre, SHIFT, note

    def _search(self, score: Score, start: NDArray[np.float64], free: NDArray[np.bool_]) -> Found:
        """The best of climbs from a grid of shifts."""
        count = self.reach.shift_mm // GRID_MM
        steps = np.arange(-count, count + 1) * GRID_MM
        shifts = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        spread = self.reach.spread
        turn = np.r_[start[:3], 0, 0, 0] if not free[0] else np.zeros(6)
        values = []
        few = score.part(np.arange(len(score.centres)) % max(1, len(score.centres) // SEARCHED) == 0)
        reference = max(few.windows(np.zeros(6)).compared.sum(), 1)
        for shift in shifts:
            there = few.windows(turn + np.r_[0, 0, 0, shift])
            values.append(there.ncc if there.compared.sum() > 0.6 * reference else -1.0)
        order = np.argsort(values)[::-1][:FOLLOWED]
        found = [climb(score, turn, spread, free)]
        for n in order:
            if np.abs(shifts[n]).max() > 0:
                found.append(climb(score, turn + np.r_[0, 0, 0, shifts[n]], spread, free, found[0].temper))
        if free[0] and self.reach.turn_degrees > LARGE_TURN:
            best = max(found, key=lambda f: f.gain).parameters
            for axis in (*np.eye(3), *-np.eye(3)):
                turned = best + np.r_[np.radians(0.6 * self.reach.turn_degrees) * RADIUS * axis, 0, 0, 0]
                found.append(climb(score, turned, spread, free, found[0].temper))
        return max(found, key=lambda f: f.gain)

    # ---- blocks

    def _place_block(self, block: int) -> None:
        assert self.block_reach is not None
        against = {g for g in self.groups if g != self.blocks[block].group}
        spread = self.block_reach.spread
        score = self._score(len(LEVELS) - 1, [block], against, np.eye(4), 2.0)
        common = self.verdicts.get(block)
        if len(score.centres) < FEWEST_WINDOWS:
            if common is not None:
                self.verdicts[block] = replace(common, note=common.note + "; too little to place it alone")
            return
        found = climb(score, np.zeros(6), spread, ALL)
        motion = score.motion(found.parameters)
        alone = self._judge(score, motion, self.block_reach, SMALLEST_DETAIL_GAIN)
        # NCC before: where the block was as it came.
        first = self.poses[block]
        back: Any = np.linalg.inv(first)
        unmoved = score.windows(score.parameters(back))
        here = score.windows(score.parameters(alone.motion))
        both = unmoved.compared & here.compared
        self.poses[block] = alone.motion @ first
        accepted = alone.accepted or bool(common and common.accepted)
        note = f"block: {alone.note}" if common is None else f"series: {common.note}; block: {alone.note}"
        self.verdicts[block] = _Verdict(
            self.poses[block], weighted_ncc(unmoved, both), weighted_ncc(here, both), accepted, note
        )

    # ---- acceptance

    def _judge(
        self,
        score: Score,
        motion: NDArray[np.float64],
        reach: Reach,
        smallest: float,
        free: NDArray[np.bool_] = ALL,
    ) -> _Verdict:
        """Accept a motion, a shift alone, or nothing."""
        nothing = np.eye(4)
        zero = score.windows(np.zeros(6))
        if zero.compared.sum() < FEWEST_WINDOWS:
            return _Verdict(nothing, None, None, False, "nothing to compare it with")
        full = score.parameters(motion)
        ncc = zero.ncc
        lacking = 1 - max(ncc, 0.0)
        shift = climb(score, np.where(SHIFT, full, 0), reach.spread, SHIFT).parameters
        a, b = _Trial(score, shift, SHIFT, reach), _Trial(score, full, free, reach)
        detail, error = b.beyond(a)
        best = b if detail > max(SMALLEST_DETAIL_GAIN * lacking, SIGMAS * error) else a
        if not reach.holds(score.motion(best.parameters), score.centre):
            other = a if best is b else b
            if not reach.holds(score.motion(other.parameters), score.centre):
                return _Verdict(nothing, ncc, ncc, False, "refused: it ran to the border of the search")
            best = other
        gain, error = best.beyond(zero)
        after = score.windows(best.parameters)
        both = zero.compared & after.compared
        first, last = weighted_ncc(zero, both), weighted_ncc(after, both)
        text = f"NCC gain {gain:.4f} +- {error:.4f} on windows left out"
        size = f"{np.round(best.parameters[3:], 2).tolist()} mm"
        if last < LOWEST_NCC:
            return _Verdict(nothing, first, first, False, "refused: the stacks do not show the same thing")
        if gain <= max(smallest * lacking, SIGMAS * error):
            return _Verdict(nothing, first, first, False, f"stays: {text} for {size}")
        if best.disagreement() > max(1.0, 0.5 * float(np.linalg.norm(best.parameters))):
            return _Verdict(nothing, first, first, False, f"refused: two halves of it disagree ({text})")
        return _Verdict(score.motion(best.parameters), first, last, True, text)

    # ---- result

    def _result(self) -> Registration:
        moved, motions, report = [], [], []
        for n, stack in enumerate(self.stacks):
            members = [b for b, block in enumerate(self.blocks) if block.stack == n]
            poses = stack.ijk_to_ras.copy()
            for b in members:
                chosen = slice(self.blocks[b].first, self.blocks[b].first + len(self.blocks[b].slices.pixels))
                poses[chosen] = self.poses[b] @ poses[chosen]
            still = all(np.array_equal(self.poses[b], np.eye(4)) for b in members)
            moved.append(stack if still else replace(stack, ijk_to_ras=poses))
            motions.append([self.poses[b] for b in members])
            report.append({"name": stack.name, "blocks": [self._line(b) for b in members]})
        anchor = self.stacks[self.blocks[self.anchor].stack] if self.blocks else None
        summary: dict[str, Any] = {
            "anchor": anchor.name if anchor is not None else None,
            "anchor_stack": self.blocks[self.anchor].stack if self.blocks else None,
            "stacks": report,
        }
        return Registration(moved, motions, summary)

    def _line(self, b: int) -> dict[str, Any]:
        block, motion = self.blocks[b], self.poses[b]
        verdict = self.verdicts.get(b)
        shift = motion[:3, :3] @ block.centre + motion[:3, 3] - block.centre
        if b == self.anchor:
            note = "anchor: stays" if len(self.groups) > 1 else "nothing to compare it with"
        else:
            note = verdict.note if verdict else "stays with the anchor's series"
        around = verdict.around if verdict else None
        return {
            "slices": [block.first, block.first + len(block.slices.pixels) - 1],
            "shift_mm_ras": [round(float(v), 3) for v in shift],
            "turn_degrees": round(turn_degrees(motion), 3),
            "ncc_before": None if verdict is None or verdict.before is None else round(verdict.before, 4),
            "ncc_after": None if verdict is None or verdict.after is None else round(verdict.after, 4),
            "accepted": bool(verdict and verdict.accepted),
            "note": note,
            "shift_around_mm_ras": None
            if around is None
            else [round(float(v), 3) for v in around[:3, :3] @ block.centre + around[:3, 3] - block.centre],
        }


def _turned_as(
    motion: NDArray[np.float64], other: NDArray[np.float64], point: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The turn of `motion` with the shift that `other` has at a point."""
    result = motion.copy()
    result[:3, 3] = other[:3, :3] @ point + other[:3, 3] - motion[:3, :3] @ point
    return result


class _Trial:
    """A motion, and what each half of the windows gains from the motion that the other half finds."""

    def __init__(
        self, score: Score, parameters: NDArray[np.float64], free: NDArray[np.bool_], reach: Reach
    ) -> None:
        self.score, self.parameters = score, parameters
        self.halves = score.halves()
        self.found = []
        for chosen in (self.halves, ~self.halves):
            part = score.part(chosen)
            self.found.append(climb(part, parameters, reach.spread, free, iterations=6).parameters)
        first, second = score.windows(self.found[0]), score.windows(self.found[1])
        self.similarity = np.where(self.halves, second.similarity, first.similarity)
        self.compared = np.where(self.halves, second.compared, first.compared)
        self.most = np.where(self.halves, second.most, first.most)

    def beyond(self, other: _Trial | Windows) -> tuple[float, float]:
        """Gain in NCC on left-out windows over another place, and its standard error."""
        both = self.compared & other.compared
        if both.sum() < 8:
            return 0.0, 1.0
        most = np.maximum(other.most[both], 1e-6)
        # Windows with more structure in one of the two places must not count as a gain.
        gain = self.similarity[both] * most / np.maximum(self.most[both], 1e-6) - other.similarity[both]
        weight = most.sum()
        _, cell = np.unique(self.score.cells[both], axis=0, return_inverse=True)
        mean = gain.sum() / weight
        sums = np.bincount(cell.ravel(), gain - mean * most)
        return float(mean), float(np.sqrt((sums**2).sum()) / weight)

    def disagreement(self) -> float:
        """Distance between the shifts of the halves, mm."""
        return float(np.linalg.norm(self.found[0][3:] - self.found[1][3:]))


__all__ = ["BLOCKS", "STACKS", "Reach", "Registration", "register_stacks", "turn_degrees"]
