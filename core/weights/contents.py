# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and shapes of the tensors in a weight file, without reading a single weight and without torch.

Seconds for files of many gigabytes, and possible in Blender's own process. `safe_loader` reads the weights themselves and
sorts them by the same rules (`grouped`).
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingError
from .foreign_pickle import Stored, UnsafePickle, read_shapes

REMEDY = "Choose another file, or download it again."
OPTIMISER = ("optimizer", "optim", "optmizer", "scheduler")
"""Parts of the names under which checkpoints keep what only a continued training needs."""
DAMAGE = (
    pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError,
    AssertionError, ImportError, MemoryError, OverflowError, OSError, zipfile.BadZipFile,
)  # fmt: skip
"""What readers raise on files that were cut off or altered."""
_PICKLE_LIMIT = 1 << 28  # the names of the largest public file take 4 MB; more is a bomb


@dataclass(frozen=True)
class Sorted:
    """A weight file's entries by kind. `Leaf` is a tensor or its description."""

    groups: Mapping[str, Mapping[str, Any]]
    """Top-level entry -> key -> leaf; the entry is "" where the file is one flat dictionary."""
    scalars: Mapping[str, Any] = field(default_factory=dict)
    """Numbers and texts beside the weights (iteration, epoch ...)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dictionaries without tensors (constructor arguments ...)."""
    mapped: bool = False
    """The tensors lie in the file itself, mapped into memory (`safe_loader.release`)."""


def read_contents(path: Path) -> Sorted:
    """Names and shapes of a weight file, or of a folder with the parts of a model in subfolders (diffusers).

    Returns:
        groups of key -> `Stored`; a folder is one group, its keys beginning with the subfolder's name.

    Raises:
        MissingError: WEIGHTS_MISSING.
        InputError: WEIGHTS_IS_FOLDER, WEIGHTS_EMPTY, WEIGHTS_UNREADABLE, WEIGHTS_FORMAT, WEIGHTS_UNSAFE, WEIGHTS_DAMAGED,
            WEIGHTS_NO_TENSORS.
    """
    if path.is_dir():
        flat: dict[str, Any] = {}
        for part in parts_of(path):
            for group in read_contents(part).groups.values():
                flat |= {f"{part.parent.name}.{key}": value for key, value in group.items()}
        return Sorted({"": flat})
    return grouped(path, examine(path), lambda value: isinstance(value, Stored))


def examine(path: Path, seen: set[str] | None = None) -> Any:
    """The object that a weight file holds, with `Stored` in place of tensors.

    Args:
        path: the file.
        seen: receives the dotted names of the globals of a pickle.

    Raises:
        as `read_contents`.
    """
    kind = kind_of(path)
    try:
        if kind == "safetensors":
            return _safetensors(path)
        if kind == "zip":
            return _zip(path, seen)
        with path.open("rb") as file:
            return read_shapes(file, seen)
    except UnsafePickle as error:
        raise unsafe(path, str(error)) from error
    except DAMAGE as error:
        raise damaged(path) from error


def kind_of(path: Path) -> str:
    """safetensors | zip | pickle, from the first bytes; the name does not count.

    Raises:
        MissingError: WEIGHTS_MISSING.
        InputError: WEIGHTS_IS_FOLDER, WEIGHTS_EMPTY, WEIGHTS_UNREADABLE, WEIGHTS_FORMAT.
    """
    if path.is_dir():
        raise InputError(
            "WEIGHTS_IS_FOLDER", f"{path.name} is a folder, not a weight file.", "Choose a file inside it."
        )
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise MissingError("WEIGHTS_MISSING", f"There is no weight file {path}.", REMEDY) from error
    except OSError as error:
        raise InputError(
            "WEIGHTS_UNREADABLE", f"{path.name} cannot be read: {error.strerror}.", REMEDY
        ) from error
    if not head:
        raise InputError("WEIGHTS_EMPTY", f"{path.name} is empty.", REMEDY)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[:1] == b"\x80":
        return "pickle"
    raise InputError(
        "WEIGHTS_FORMAT", f"{path.name} is neither safetensors nor a PyTorch file.", "Choose a weight file."
    )


def parts_of(folder: Path) -> list[Path]:
    """One weight file for each subfolder that has one (unet, vae, image_encoder ...), fp32 before fp16, safetensors first.

    Raises:
        InputError: WEIGHTS_IS_FOLDER where no subfolder has any.
    """
    parts = []
    for below in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = [path for suffix in ("*.safetensors", "*.bin") for path in sorted(below.glob(suffix))]
        if found:
            parts.append(min(found, key=lambda path: (path.stem.count("."), found.index(path))))
    if not parts:
        raise InputError(
            "WEIGHTS_IS_FOLDER", f"{folder.name} is a folder, not a weight file.", "Choose a file inside it."
        )
    return parts


def grouped(path: Path, content: Any, is_leaf: Callable[[Any], bool]) -> Sorted:
    """Sort what a weight file holds.

    Raises:
        InputError: WEIGHTS_NO_TENSORS where it is no dictionary.
    """
    if not isinstance(content, Mapping):
        raise no_tensors(path)
    groups: dict[str, dict[str, Any]] = {}
    scalars: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in content.items():
        if is_leaf(value):
            groups.setdefault("", {})[str(name)] = value
        elif isinstance(value, Mapping) and not any(word in str(name).lower() for word in OPTIMISER):
            leaves = {str(k): v for k, v in value.items() if is_leaf(v)}
            if leaves:
                groups[str(name)] = leaves
            else:
                settings[str(name)] = value
        elif isinstance(value, int | float | str):
            scalars[str(name)] = value
    return Sorted(groups, scalars, settings)


def no_tensors(path: Path) -> InputError:
    """The file holds no weights."""
    return InputError("WEIGHTS_NO_TENSORS", f"{path.name} holds no weights of a network.", REMEDY)


def damaged(path: Path) -> InputError:
    """The file was cut off or altered."""
    return InputError("WEIGHTS_DAMAGED", f"{path.name} is damaged or cut off.", REMEDY)


def unsafe(path: Path, name: str = "") -> InputError:
    """The file names something that could run code; `name`: what."""
    what = f" ({name})" if name else ""
    return InputError(
        "WEIGHTS_UNSAFE",
        f"{path.name} holds more than weights{what}: loading it could run a program of its author.",
        "Choose a file with weights only, best a .safetensors file.",
    )


def _safetensors(path: Path) -> dict[str, Stored]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if path.stat().st_size != 8 + length + end:
        raise ValueError("cut off")
    return {name: Stored(tuple(entry["shape"]), entry["dtype"]) for name, entry in entries.items()}


def _zip(path: Path, seen: set[str] | None) -> Any:
    with zipfile.ZipFile(path) as archive:
        record = next(
            (
                info
                for info in archive.infolist()
                if info.filename.count("/") == 1 and info.filename.endswith("/data.pkl")
            ),
            None,
        )
        if record is None or record.file_size > _PICKLE_LIMIT:
            raise ValueError("no list of tensors")
        with archive.open(record) as file:
            return read_shapes(file, seen)  # type: ignore[arg-type]
