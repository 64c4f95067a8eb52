"""Seeds of random test data: the same in every run, or those of a search for data that breaks something.

A test that draws new data at each run fails for somebody who changed nothing, and its bound may be wrong for one seed in a
thousand without anybody knowing. So tests are given one seed for good. `GAUSSIANMRI_TEST_SEED=random` draws
another at each call, `GAUSSIANMRI_TEST_SEED=<number>` repeats one; pytest prints a failed test's seed.
"""

from __future__ import annotations

import os
import random

FIXED = 20_260_626


def chosen_seed() -> int:
    """The seed of a test's data, 1 to 2^31 - 1."""
    wanted = os.environ.get("GAUSSIANMRI_TEST_SEED", str(FIXED))
    seed = random.SystemRandom().randrange(1, 2**31) if wanted == "random" else int(wanted)
    print(f"GAUSSIANMRI_TEST_SEED={seed}")
    return seed
