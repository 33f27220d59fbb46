"""Numbers mixed with a seed: the chance by which rows are drawn. Pure; knows numbers only."""

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]


def mix(keys: Keys, seed: int) -> Keys:
    """Return each key mixed with the seed, by SplitMix64's finish (Steele et al., 2014)."""
    mixed = keys + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
