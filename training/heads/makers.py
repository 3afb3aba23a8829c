# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that make heads or pictures while the trainer trains."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from itertools import count
from pathlib import Path
from queue import Empty, Full
from typing import Any

import torch

from .coded import CodedHeads

Make = Callable[[CodedHeads, int], Any]
"""Source, seed -> what is made of it."""
WAITING = 8
"""Things at most that wait to be taken."""


class Makers:
    """A few processes, each with every so many-th seed from `first` on; they end with this one."""

    def __init__(self, packs: Path, make: Make, first: int, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.queue: Any = context.Queue(maxsize=WAITING)
        self.processes = [
            context.Process(
                target=make_for_ever, args=(packs, make, first + number, processes, self.queue), daemon=True
            )
            for number in range(processes)
        ]
        for process in self.processes:
            process.start()

    def take(self, least: int = 0) -> list[tuple[int, Any]]:
        """Seeds and what was made of them: all that waits, and at least so many.

        Raises:
            RuntimeError: a maker has died; its traceback stands above.
        """
        self._check()
        out: list[tuple[int, Any]] = []
        while len(out) < least or not self.queue.empty():
            try:
                seed, made = self.queue.get(timeout=5)
            except Empty:
                self._check()
            else:
                out.append((seed, pickle.loads(made)))
        return out

    def _check(self) -> None:
        if not all(process.is_alive() for process in self.processes):
            raise RuntimeError("a maker of heads has died")


def make_for_ever(packs: Path, make: Make, first: int, step: int, out: Any) -> None:
    """In a maker's process."""
    torch.set_num_threads(1)
    source = CodedHeads(packs)
    parent = multiprocessing.parent_process()
    for seed in count(first, step):
        # Pickled here: torch's own way through shared memory holds a file open per tensor.
        made = pickle.dumps(make(source, seed))
        while True:  # a trainer that was killed takes nothing any more
            try:
                out.put((seed, made), timeout=5)
                break
            except Full:
                if parent is None or not parent.is_alive():
                    return
