"""How much memory a fit takes, found out before it starts."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from ..errors import GaussianMRIError
from ..priors.network_prior import working_bytes
from ..stacks import SliceStack
from ..volumes import default_factor
from .parts import Part, covering_lattice

PROCESSOR = torch.device("cpu")
#: Volumes of float32 that a fit of one block holds at once: guess, blend, their parts, and the lattice.
VOLUMES = 6
#: Of these, those that are there while the network makes the guess: slices between slices, twice, and what it adds.
GUESSED = 3
#: What libraries take once they are used, in a process that has done nothing before, and what the allocator keeps: 0.08 to
#: 0.12 GB beside the above, at 4 to 19 slices of 48 to 384 pixels.
LIBRARIES = 120_000_000
#: Arrays over the common lattice while several acquisitions are fused, besides two for each of them.
ARRAYS = 8
#: Of the memory that is free so much may be taken.
SHARE = 0.9


def needed_bytes(stacks: Sequence[SliceStack], pitch: float | None = None) -> int:
    """Bytes that the preset `fast` needs at most, about."""
    parts = [Part.of(stack, 0.0, 1.0) for stack in stacks]
    groups = [group for part in parts for group in part.groups]
    sizes = [group.pixels.size * default_factor(group) for group in groups]
    alone = max(
        max(4 * VOLUMES * size, 4 * GUESSED * size + working_bytes(group))
        for size, group in zip(sizes, groups, strict=True)
    )
    if len(sizes) == 1:
        return LIBRARIES + alone
    kept = 4 * sum(size // 2 for size in sizes)
    nodes = len(covering_lattice(parts, pitch))
    return LIBRARIES + kept + max(alone, 4 * nodes * (ARRAYS + 2 * len(parts)))


def available_bytes(device: torch.device) -> int | None:
    """Bytes of a device's memory that are free; None where the system does not say."""
    if device.type == "cuda":
        # torch keeps what it has taken once, and uses it again.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(os.sysconf("SC_AVPHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return None


def check_memory(
    stacks: Sequence[SliceStack], pitch: float | None = None, device: torch.device = PROCESSOR
) -> int:
    """Bytes that a fit needs, of this computer's memory and, on a GPU, as many of the GPU's at most.

    Raises:
        GaussianMRIError: more than are free.
    """
    needed = needed_bytes(stacks, pitch)
    for place in dict.fromkeys((PROCESSOR, device)):
        available = available_bytes(place)
        if available is None or needed <= SHARE * available:
            continue
        on_gpu = place.type == "cuda"
        memory = "the GPU's memory" if on_gpu else "memory"
        common = sum(len(stack.blocks()) for stack in stacks) > 1  # a lattice over all of them, of its own pitch
        ways = ["close other programs", "fit a region of interest (--roi)"]
        ways += ["fit on the processor (--device cpu)"] * on_gpu
        ways += ["choose a coarser lattice (--pitch, mm)"] * common
        raise GaussianMRIError(
            f"The fit would need {needed / 1e9:.1f} GB of {memory}, and {available / 1e9:.1f} GB are free. What helps: "
            f"{', or '.join(ways)}."
        )
    return needed
