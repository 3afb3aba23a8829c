# SPDX-License-Identifier: GPL-3.0-or-later
"""Pickles of strangers, read without executing anything: PyTorch's own, and those of NVIDIA's generators.

Every global that a file names is looked up in a table; what is not there refuses the file. The table holds makers of
plain records, so that no code of the file, and no code chosen by the file, ever runs. Standard library only.

NVIDIA's files (StyleGAN, EG3D) hold whole objects together with the source text of their classes; the source is dropped
and the tensors are found in the objects' attributes (`state_of`).
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First number of PyTorch's older file format."""

Table = Mapping[tuple[str, str], Any]


class UnsafePickle(Exception):
    """The file names a global that is not in the table; the argument is its dotted name."""


class Inert:
    """Stands for an object of another library: keeps its attributes, does nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        """Attributes as pickle hands them over."""
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict | type(None)):
            state = {**(state[0] or {}), **(state[1] or {})}
        if isinstance(state, dict):
            self.__dict__.update({str(name): value for name, value in state.items()})


class Record(Inert):
    """An object of NVIDIA's `persistence`: its class name and its attributes."""


class Attributes(dict[Any, Any]):
    """NVIDIA's dictionary whose keys are attributes too (`EasyDict`); a plain dictionary here."""

    def __setstate__(self, state: Any) -> None:
        """Nothing to set: the items come by themselves."""


class Storage(NamedTuple):
    """Where the numbers of a tensor lie, without the numbers."""

    dtype: str
    numbers: int


class Stored(NamedTuple):
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    dtype: str


def _tensor(storage: Any, offset: int, size: Any, *_: Any) -> Stored:
    return Stored(tuple(int(n) for n in size), getattr(storage, "dtype", ""))


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _persistent(meta: Mapping[str, Any]) -> Record:
    record = Record()
    record.__setstate__(dict(meta.get("state") or {}))
    record.class_name = str(meta.get("class_name", ""))  # type: ignore[attr-defined]
    return record


PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
"""Global that only NVIDIA's generators name."""
NUMBERS = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
INERT_MODULES = (
    "pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.", "argparse.", "pathlib.", "yacs.",
    "torch.nn.modules.", "training.triplane", "training.volumetric_rendering.",
)  # fmt: skip
"""Objects beside the weights in published files (trainer's settings, callbacks); they become `Inert`."""

RENDERING_PARTS = ("OSGDecoder", "ImportanceRenderer", "MipRayMarcher2", "RaySampler")
"""Parts of EG3D that its files hold as plain objects; in networks that were saved again their module has a made-up name."""

SHAPES: Table = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): lambda *_: {},
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): lambda make, _, arguments, __: make(*arguments),
    ("torch.storage", "_load_from_bytes"): lambda _: Storage("", 0),
    ("torch", "Size"): lambda sizes=(): tuple(sizes),
    ("torch", "device"): Inert,
    ("torch", "Tensor"): Inert,
    ("torch.nn.parameter", "Parameter"): Inert,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("dnnlib.util", "EasyDict"): Attributes,
    ("dnnlib", "EasyDict"): Attributes,
    ("numpy", "dtype"): Inert,
    ("numpy", "ndarray"): Inert,
    **{
        (f"numpy.{core}.multiarray", name): Inert
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    },
    ("_codecs", "encode"): lambda text, *_: text.encode("latin1"),
    **{(module, "set"): set for module in ("builtins", "__builtin__")},
    **{("builtins", kind): Inert for kind in ("dict", "list", "int", "float", "str", "bool", "tuple")},
    **{("torch", f"{name}Storage"): name.lower() for name in NUMBERS},
    ("torch.storage", "UntypedStorage"): "bytes",
    ("torch.storage", "TypedStorage"): "typed",
    **{("torch", name): name for name in ("float32", "float16", "bfloat16", "float64", "int64")},
    ("typing", "Any"): Inert,
}
"""What a global becomes when only names and shapes are wanted."""


class RestrictedUnpickler(pickle.Unpickler):
    """Reads one pickle with the globals of a table.

    Args:
        file: at the start of the pickle.
        table: (module, name) -> what stands for it.
        seen: receives the dotted name of every global that is named.
    """

    def __init__(self, file: BinaryIO, table: Table = SHAPES, seen: set[str] | None = None) -> None:
        super().__init__(file)
        self._table = table
        self._seen = set() if seen is None else seen

    def find_class(self, module: str, name: str) -> Any:
        """Raises UnsafePickle for what is not in the table."""
        self._seen.add(f"{module}.{name}")
        if (module, name) in self._table:
            return self._table[module, name]
        if not f"{module}.".startswith(INERT_MODULES) and name not in RENDERING_PARTS:
            raise UnsafePickle(f"{module}.{name}")
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        """PyTorch names storages so: ("storage", kind, key, device, count, ...)."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError(f"unknown reference {pid!r}")
        return Storage(str(pid[1]), int(pid[4]))


def read_shapes(file: BinaryIO, seen: set[str] | None = None) -> Any:
    """The object of a pickle, or of a PyTorch file of the older kind, with `Stored` for every tensor.

    Args:
        file: at its start.
        seen: receives the dotted name of every global that the file names.

    Raises:
        UnsafePickle: it names something that could run code.
        pickle.UnpicklingError, EOFError, ValueError ...: damaged.
    """
    content = RestrictedUnpickler(file, seen=seen).load()
    if content == LEGACY_MAGIC:
        for _ in range(2):  # protocol number, description of the machine
            RestrictedUnpickler(file, seen=seen).load()
        content = RestrictedUnpickler(file, seen=seen).load()
    return plain(content)


def plain(content: Any) -> Any:
    """NVIDIA's objects at the top of a file -> state dictionaries, and `ENTRY settings` beside them; anything else unchanged."""
    if isinstance(content, Record):
        content = {"G_ema": content}
    if not isinstance(content, dict):
        return content
    found: dict[Any, Any] = {}
    for name, value in content.items():
        found[name] = state_of(value) if isinstance(value, Record) else value
        if isinstance(value, Record):
            found[f"{name} settings"] = settings_of(value)
    return found


def settings_of(network: Record) -> dict[str, Any]:
    """What a generator says besides its weights: constructor's and renderer's settings, resolution, axes of the planes."""
    attributes = vars(network)
    settings = {
        "init_kwargs": _simple(attributes.get("_init_kwargs")),
        "rendering_kwargs": _simple(attributes.get("rendering_kwargs")),
        "neural_rendering_resolution": _simple(attributes.get("neural_rendering_resolution")),
    }
    renderer = (attributes.get("_modules") or {}).get("renderer")
    axes = getattr(renderer, "plane_axes", None)
    if axes is not None and hasattr(axes, "tolist"):  # not where only shapes are read
        settings["plane_axes"] = axes.tolist()
    return {name: value for name, value in settings.items() if value not in (None, {})}


def _simple(value: Any) -> Any:
    """Numbers, texts and containers of them; anything else becomes None."""
    if isinstance(value, dict):
        return {str(name): _simple(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_simple(item) for item in value]
    return value if isinstance(value, bool | int | float | str) else None


def state_of(module: Any) -> dict[str, Any]:
    """What `state_dict()` of a pickled torch module would give: parameters, lasting buffers, then children."""
    attributes = vars(module)
    passing = attributes.get("_non_persistent_buffers_set") or ()
    own = {
        **(attributes.get("_parameters") or {}),
        **{k: v for k, v in (attributes.get("_buffers") or {}).items() if k not in passing},
    }
    state = {name: value for name, value in own.items() if value is not None}
    for name, child in (attributes.get("_modules") or {}).items():
        if isinstance(child, Inert):
            state |= {f"{name}.{key}": value for key, value in state_of(child).items()}
    return state
