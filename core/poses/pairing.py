# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pictures to match: all pairs up to 80 pictures, beyond that neighbours in order and look-alikes (spec-pose C.4)."""

from __future__ import annotations

import cv2
import numpy as np

from .working_copies import WorkingSet

ALL_PAIRS = 80
SEQUENCE = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 32, 64)
LOOK_ALIKES = 20


def choose_pairs(working: WorkingSet) -> list[tuple[str, str]] | None:
    """Pairs of picture names; None for all with all.

    Names in order are taken as a walk around the object (each picture with the next ten and some further on); besides
    each picture goes with those whose 16 x 16 thumbnails correlate most, which closes loops and serves shuffled sets.
    """
    names = [copy.name for copy in working.copies]
    if len(names) <= ALL_PAIRS:
        return None
    chosen = {(i, i + step) for i in range(len(names)) for step in SEQUENCE if i + step < len(names)}
    tiny = [
        cv2.resize(copy.thumbnail, (16, 16), interpolation=cv2.INTER_AREA).ravel() for copy in working.copies
    ]
    rows = np.array(tiny, np.float64)
    rows -= rows.mean(1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    alike = rows @ rows.T
    np.fill_diagonal(alike, -2)
    for i, others in enumerate(np.argsort(-alike, axis=1, kind="stable")[:, :LOOK_ALIKES]):
        chosen |= {(min(i, int(j)), max(i, int(j))) for j in others}
    return [(names[i], names[j]) for i, j in sorted(chosen)]
