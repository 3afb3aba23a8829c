# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that stay loaded between the jobs of one engine process, until it is told to give the memory back."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Hashable
from typing import TypeVar

from . import tuning

Model = TypeVar("Model")

_loaded: dict[Hashable, object] = {}


def loaded(key: Hashable, load: Callable[[], Model]) -> Model:
    """The model kept under `key` (say file, modification time and device), loaded now if it is not there."""
    if key not in _loaded:
        _loaded[key] = load()
    return _loaded[key]  # type: ignore[return-value]


def release() -> None:
    """Forget all models and hand their memory, and the GPU's, back to the system."""
    _loaded.clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch is not None and torch.backends.mps.is_available():
        torch.mps.empty_cache()
    tuning.give_memory_back()
