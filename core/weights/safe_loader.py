# SPDX-License-Identifier: GPL-3.0-or-later
"""Weight files of strangers to tensors, without executing anything that stands in them.

Reads safetensors, and PyTorch files of both kinds (zip, and the older plain pickle) through `torch.load` with
`weights_only`, which builds tensors and containers and refuses every other object.
"""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import FailedError, InputError, MissingError

log = logging.getLogger(__name__)

AVERAGES = ("generator_test", "model_g_ma", "ema", "params_ema", "model_ema", "G_ema")
"""Names under which published checkpoints keep the moving average of a generator, which is the better one."""
PLAIN = (
    "model",
    "model_g",
    "generator",
    "network_fine_state_dict",
    "network_fn_state_dict",
    "state_dict",
    "params",
)
"""Names of the plain weights, in order of preference."""
OPTIMISER = ("optimizer", "optim", "optmizer", "g_optimizer", "d_optimizer", "scheduler")
REMEDY = "Choose another file, or download it again."


@dataclass(frozen=True)
class Checkpoint:
    """What a weight file holds."""

    path: Path
    groups: Mapping[str, Mapping[str, Tensor]]
    """Top-level entry -> key -> tensor; the entry is "" where the file is one flat dictionary."""
    scalars: Mapping[str, Any]
    """Numbers and texts beside the weights (iteration, epoch ...)."""

    def network(self) -> dict[str, Tensor]:
        """The weights to use: the moving average of a generator where there is one, without wrapping prefixes.

        Raises:
            InputError: WEIGHTS_NO_TENSORS, WEIGHTS_NOT_FINITE.
        """
        names = [n for n in (*AVERAGES, *PLAIN, "") if n in self.groups]
        names += [n for n in self.groups if n not in names]
        if not names:
            raise InputError("WEIGHTS_NO_TENSORS", f"{self.path.name} holds no weights of a network.", REMEDY)
        tensors = without_wrapper(self.groups[names[0]])
        for prefix in (*AVERAGES, "generator"):
            part = {k.removeprefix(f"{prefix}."): t for k, t in tensors.items() if k.startswith(f"{prefix}.")}
            if part:
                tensors = without_wrapper(part)
                break
        log.info("%s: %d tensors of %s", self.path.name, len(tensors), names[0] or "the file")
        check_finite(tensors, self.path)
        return tensors


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a weight file.

    Args:
        path: a .safetensors, .pt, .pth, .ckpt, .tar or .bin file; the content decides, not the name.

    Raises:
        MissingError: WEIGHTS_MISSING.
        InputError: WEIGHTS_IS_FOLDER, WEIGHTS_EMPTY, WEIGHTS_FORMAT, WEIGHTS_UNSAFE, WEIGHTS_DAMAGED.
    """
    if path.is_dir():
        raise InputError(
            "WEIGHTS_IS_FOLDER", f"{path.name} is a folder, not a weight file.", "Choose a file inside it."
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise MissingError("WEIGHTS_MISSING", f"There is no weight file {path}.", REMEDY) from error
    except OSError as error:
        raise InputError(
            "WEIGHTS_UNREADABLE", f"{path.name} cannot be read: {error.strerror}.", REMEDY
        ) from error
    if not size:
        raise InputError("WEIGHTS_EMPTY", f"{path.name} is empty.", REMEDY)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return Checkpoint(path, {"": _read_safetensors(path)}, {})
    if not (head.startswith(b"PK\x03\x04") or head[:1] == b"\x80"):
        raise InputError(
            "WEIGHTS_FORMAT",
            f"{path.name} is neither safetensors nor a PyTorch file.",
            "Choose a weight file.",
        )
    return _grouped(path, _read_torch(path))


def without_wrapper(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the `module.` that training on several cards puts before or into them."""
    return {key.removeprefix("module.").replace(".module.", "."): tensor for key, tensor in tensors.items()}


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
        raise InputError("WEIGHTS_DAMAGED", f"{path.name} is damaged or cut off.", REMEDY) from error
    except MemoryError as error:
        raise FailedError(
            "OUT_OF_MEMORY", f"{path.name} does not fit into memory.", "Close other programs."
        ) from error


def _read_torch(path: Path) -> Any:
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    allowed: list[Any] = [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype]
    allowed += [type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise InputError(
                "WEIGHTS_UNSAFE",
                f"{path.name} holds more than weights: loading it could run a program of its author.",
                "Choose a file with weights only, best a .safetensors file.",
            ) from error
        raise InputError("WEIGHTS_DAMAGED", f"{path.name} is damaged or cut off.", REMEDY) from error
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OSError,
        zipfile.BadZipFile,
    ) as error:
        raise InputError("WEIGHTS_DAMAGED", f"{path.name} is damaged or cut off.", REMEDY) from error
    except MemoryError as error:
        raise FailedError(
            "OUT_OF_MEMORY", f"{path.name} does not fit into memory.", "Close other programs."
        ) from error


def _grouped(path: Path, content: Any) -> Checkpoint:
    if isinstance(content, Tensor) or not isinstance(content, Mapping):
        raise InputError("WEIGHTS_NO_TENSORS", f"{path.name} holds no weights of a network.", REMEDY)
    groups: dict[str, dict[str, Tensor]] = {}
    scalars: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            groups.setdefault("", {})[str(name)] = value
        elif isinstance(value, Mapping) and not any(word in str(name).lower() for word in OPTIMISER):
            tensors = {str(k): v for k, v in value.items() if isinstance(v, Tensor)}
            if tensors:
                groups[str(name)] = tensors
        elif isinstance(value, int | float | str | np.generic):
            scalars[str(name)] = value
    return Checkpoint(path, groups, scalars)
