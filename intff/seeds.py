"""Random generators by purpose and epoch, so that a run can be resumed at any epoch."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seeded(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """Create a CPU generator for one purpose in one epoch; equal arguments give equal random numbers.

    Args:
        seed: the spec's seed.
        purpose: the name of the purpose; different purposes have independent generators.
        epoch: from 1; 0 means before the first epoch.
    """
    state = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), epoch]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
