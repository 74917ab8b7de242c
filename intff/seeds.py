"""Randomness by name: each purpose and epoch has a generator of its own, so a run can go on anywhere."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seeded(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """A CPU generator for one purpose in one epoch; equal arguments give equal numbers.

    Args:
        seed: the spec's.
        purpose: what it is for; two purposes never share numbers.
        epoch: from 1; 0 is before the first.
    """
    state = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), epoch]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
