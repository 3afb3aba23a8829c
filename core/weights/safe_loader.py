# SPDX-License-Identifier: GPL-3.0-or-later
"""Weight files of strangers to tensors, without executing anything that stands in them.

Reads safetensors, PyTorch files of both kinds (zip, and the older plain pickle) through `torch.load` with
`weights_only`, which builds tensors and containers and refuses every other object, and NVIDIA's pickled generators through
`foreign_pickle`.
"""

from __future__ import annotations

import ctypes
import io
import logging
import mmap
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import FailedError, InputError
from . import foreign_pickle
from .contents import DAMAGE, REMEDY, Sorted, damaged, examine, grouped, kind_of, parts_of, unsafe
from .foreign_pickle import INERT_MODULES, PERSISTENT, SHAPES, Inert, RestrictedUnpickler, UnsafePickle

log = logging.getLogger(__name__)

TENSORS: foreign_pickle.Table = {
    **{place: made for place, made in SHAPES.items() if not place[0].startswith("numpy")},
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): lambda data: torch.load(
        io.BytesIO(data), map_location="cpu", weights_only=True
    ),
    **{
        (f"numpy{core}.multiarray", name): Inert
        for core in (".core", "._core")
        for name in ("scalar", "_reconstruct")
    },
    ("numpy", "dtype"): Inert,
    ("numpy", "ndarray"): Inert,
}
"""As `foreign_pickle.SHAPES`, with tensors."""


def read_checkpoint(path: Path) -> Sorted:
    """Read a weight file, or a folder with the parts of a model in subfolders (diffusers).

    Args:
        path: a .safetensors, .pt, .pth, .ckpt, .tar, .bin or .pkl file; the content decides, not the name.

    Returns:
        groups of key -> tensor on the CPU, dtype as stored.

    Raises:
        MissingError: WEIGHTS_MISSING.
        InputError: WEIGHTS_IS_FOLDER, WEIGHTS_EMPTY, WEIGHTS_UNREADABLE, WEIGHTS_FORMAT, WEIGHTS_UNSAFE, WEIGHTS_DAMAGED,
            WEIGHTS_NO_TENSORS.
        FailedError: OUT_OF_MEMORY.
    """
    if path.is_dir():
        flat: dict[str, Tensor] = {}
        mapped = True
        for part in parts_of(path):
            content = read_checkpoint(part)
            mapped &= content.mapped
            for group in content.groups.values():
                flat |= {f"{part.parent.name}.{key}": value for key, value in group.items()}
        return Sorted({"": flat}, mapped=mapped)
    kind = kind_of(path)
    try:
        held, mapped = (_read_safetensors(path), True) if kind == "safetensors" else _read_torch(path)
    except MemoryError as error:
        raise FailedError(
            "OUT_OF_MEMORY", f"{path.name} does not fit into memory.", "Close other programs."
        ) from error
    return replace(grouped(path, held, lambda value: isinstance(value, Tensor)), mapped=mapped)


def release(tensor: Tensor) -> None:
    """Let the pages of a mapped weight file behind an unchanged tensor go; asking for them reads the file again.

    So a file of many gigabytes is converted to half precision in the memory of the result. Only for tensors of a
    `Sorted` that says `mapped`: any other memory would be lost. Does nothing where the system cannot.
    """
    if os.name != "posix" or not tensor.is_contiguous():
        return
    begin, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
    first, last = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, (begin + size) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises InputError WEIGHTS_NOT_FINITE naming the first tensor with a value that is no number."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                "WEIGHTS_NOT_FINITE",
                f"The weights {key} in {path.name} hold values that are no numbers.",
                REMEDY,
            )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(path) from error


def _read_torch(path: Path) -> tuple[Any, bool]:
    """What the file holds, and whether its tensors are mapped."""
    try:
        # The names a file uses are read first: what is refused is told by name, and trainers' objects become inert.
        seen: set[str] = set()
        examine(path, seen)
        if PERSISTENT in seen:
            with path.open("rb") as file:
                return foreign_pickle.plain(RestrictedUnpickler(file, TENSORS).load()), False
        mapped = kind_of(path) == "zip"
        inert = [(Inert, name) for name in sorted(seen) if name.startswith(INERT_MODULES)]
        with torch.serialization.safe_globals([*_numbers(), *inert]):
            # Mapped, so that optimiser state and second copies in a file of many gigabytes are never read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped), mapped
    except UnsafePickle as error:
        raise unsafe(path, str(error)) from error
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise unsafe(path) from error
        raise damaged(path) from error
    except MemoryError:
        raise
    except DAMAGE as error:
        raise damaged(path) from error


def _numbers() -> list[Any]:
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = (np.float64, np.float32, np.int64, np.int32, np.bool_)
    return [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *(type(np.dtype(k)) for k in kinds)]
