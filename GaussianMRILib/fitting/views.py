"""What single series add to a fused field on planes that lie as their slices do; see `gaussians/views.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..gaussians import GaussianLattice
from ..gaussians.lattice import FULL_DENSITY
from ..gaussians.views import SeriesView
from .levels import FADE_MM
from .parts import Part

#: A view fades out towards the faces of what its slices scanned over so many distances between them: the first and the last
#: acquired slice, half a distance inside, are shown in full.
FADE = 0.4
#: Slices nearer to each other than this, mm, lie in one place.
SAME_PLACE = 1e-3


def series_views(
    parts: Sequence[Part],
    shares: Sequence[float | None],
    fused: GaussianLattice,
    step: float,
    heard: Callable[[], object],
    *,
    on_slices: bool = True,
) -> tuple[SeriesView, ...]:
    """One view for each block of every part, or of those that have a share.

    Inside, a view has the part's own brightness, as it was acquired; towards the sides of what was scanned, the one that
    all parts share there (`levels.py`), so that nothing shows where it ends.

    Args:
        parts: fitted alone, in the shared scale; their lattices are used up.
        shares: of the image on planes parallel to the part's slices, halfway between two, 0 to 1, one a part; None: no view.
        fused: the field that they are added to.
        step: of the colours, see `GaussianLattice.rounded`.
        heard: called between the parts; it may raise to stop.
        on_slices: whether a view is the part itself where it has a slice.
    """
    found = []
    for part, share in zip(parts, shares, strict=True):
        if share is None or (share <= 0 and not on_slices):
            continue
        for block in part.blocks:
            own = part.lattices.pop(0)  # a view of it is kept, and of a large exam that is much
            heard()
            fade = FADE * block.spacing
            hull, normal = block.hull(), np.asarray(block.normal, np.float64)
            say = own.depth_inside(hull, most=fade).div_(fade).clamp_(0, 1)
            values = part.scale.of_nodes(own.nodes, own)
            if part.level is not None:
                inner, inner_say = values.clone(), say.clone()
                part.levelled(values, say, own)
                sides = hull[abs(hull[:, :3] @ normal) < 0.5]
                inside = own.depth_inside(sides, most=FADE_MM).div_(FADE_MM).clamp_(0, 1)
                values, say = torch.lerp(values, inner, inside), torch.lerp(say, inner_say, inside)
                del inner, inner_say, inside
            base, weight = fused.at_nodes(own)
            say = torch.where(weight > 0.5 * FULL_DENSITY, say, torch.ones_like(say))
            values = torch.lerp(base, values, say)
            places = np.sort(block.positions)
            places = places[np.diff(places, prepend=-np.inf) > SAME_PLACE] if on_slices else places[:0]
            found.append(SeriesView(own.with_nodes(values).rounded(step), normal, share, places))
    return tuple(found)
