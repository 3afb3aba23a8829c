# SPDX-License-Identifier: GPL-3.0-or-later
"""The same work on many items, in threads: most of it is spent in torch and OpenCV, which let others run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_threads(
    work: Callable[[Item], Made], items: Iterable[Item], each: Callable[[int], None] = lambda done: None
) -> list[Made]:
    """`work` on every item; results in the order of the items.

    Args:
        work: must not touch what another item's work changes.
        items: what to work on.
        each: told in this thread how many are done; may raise to stop (cancel), what has not begun is then left out.

    As many threads as torch was given. Each has one of torch's own: those wait for each other at every small operation.
    """
    made: list[Made] = []
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(before, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for result in pool.map(work, items):
                made.append(result)
                each(len(made))
    finally:
        torch.set_num_threads(before)
    return made
