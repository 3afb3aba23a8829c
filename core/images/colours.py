# SPDX-License-Identifier: GPL-3.0-or-later
"""Colour histograms: how much likelier a colour is on the object than around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BINS = 24
"""Per channel."""
FLOOR = 2e-5
"""Probability of a colour that was not seen."""


def colour_index(rgb: NDArray[np.float32]) -> NDArray[np.int32]:
    """(..., 3) sRGB 0..1 -> (...) number of the histogram's bin."""
    bins = np.clip((rgb * BINS).astype(np.int32), 0, BINS - 1)
    return np.asarray((bins[..., 0] * BINS + bins[..., 1]) * BINS + bins[..., 2])


def histogram(index: NDArray[np.int32]) -> NDArray[np.float64]:
    """Bin numbers -> counts (BINS**3,)."""
    return np.bincount(index.ravel(), minlength=BINS**3).astype(np.float64)


def density(count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Counts -> smoothed probabilities, (BINS**3,)."""
    smooth = ndimage.gaussian_filter(count.reshape(BINS, BINS, BINS), 0.8, mode="nearest").ravel()
    return np.asarray(smooth / max(float(smooth.sum()), 1e-9))


def colour_odds(
    front: NDArray[np.float64], back: NDArray[np.float64], index: NDArray[Any]
) -> NDArray[np.float32]:
    """Log odds of object against surroundings for bins, within -4 .. 4."""
    odds = np.log((front[index] + FLOOR) / (back[index] + FLOOR))
    return np.asarray(np.clip(odds, -4.0, 4.0), np.float32)
