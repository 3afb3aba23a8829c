# SPDX-License-Identifier: GPL-3.0-or-later
"""One job at a time per GPU, across all Blenders of this user. Runs in the engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from ..progress import Progress
from . import places

WAITING = "waiting for the GPU"


def lock_name(device: str) -> str | None:
    """Name of the GPU that a job with the setting `device` (auto | cpu | cuda | mps) will use; None: it uses none."""
    if device == "cpu" or importlib.util.find_spec("torch") is None:
        return None
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        card = torch.cuda.get_device_properties(torch.cuda.current_device())
        return f"cuda-{getattr(card, 'uuid', card.name)}".replace(" ", "-")
    if device in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    return None


@contextmanager
def turn(device: str, progress: Progress) -> Iterator[None]:
    """Wait for the GPU's turn and hold it.

    Raises:
        Cancelled: while waiting.
    """
    name = lock_name(device)
    if name is None:
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(places.folder("locks") / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with progress.stage(WAITING):
            while not lock.is_locked:
                progress.update(0.0)
                try:
                    lock.acquire(timeout=0.3)
                except Timeout:
                    continue
    try:
        yield
    finally:
        lock.release()
