# SPDX-License-Identifier: GPL-3.0-or-later
"""A generator pickled as NVIDIA's programs do it, from one of our networks: objects, each with the source text of its class.

The classes it names are stand-ins that exist only while the file is written; the source text is whatever the test wants
to see never run.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

CLASSES = {
    "dnnlib.util": ("EasyDict",),
    "torch_utils.persistence": ("_reconstruct_persistent_obj",),
    "training.triplane": ("OSGDecoder",),
    "training.volumetric_rendering.renderer": ("ImportanceRenderer",),
    "training.volumetric_rendering.ray_sampler": ("RaySampler",),
}
PLANES = [
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
    [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
]
"""The released code's axes."""


@contextmanager
def stand_ins(decoder_module: str = ""):
    """The modules and classes by name; `decoder_module` renames that of the decoder, as saving again does."""
    made: dict[str, Any] = {}
    modules = dict(CLASSES)
    if decoder_module:
        modules[decoder_module] = modules.pop("training.triplane")
    names = {".".join(name.split(".")[: i + 1]) for name in modules for i in range(name.count(".") + 1)}
    fake = {name: types.ModuleType(name) for name in names}
    for module, classes in modules.items():
        for name in classes:
            base = dict if name == "EasyDict" else object
            thing = type(name, (base,), {"__module__": module})
            if name.startswith("_"):
                thing = _must_not_run
                thing.__module__, thing.__qualname__, thing.__name__ = module, name, name
            setattr(fake[module], name, thing)
            made[name] = thing
    with mock.patch.dict(sys.modules, fake):
        yield made


def _must_not_run(meta: Any) -> None:
    raise AssertionError("this is what must not be called")


class Persistent:
    """Pickles as a call of NVIDIA's function with the object's attributes."""

    def __init__(self, make: Any, class_name: str, source: str, state: dict[str, Any]) -> None:
        self.make, self.meta = make, {
            "type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state,
        }  # fmt: skip

    def __reduce__(self) -> Any:
        return self.make, (self.meta,)


class OnCard:
    """A tensor as it is stored when it lives on a graphics card."""

    def __init__(self, values: Any) -> None:
        self.tensor = torch.tensor(values, dtype=torch.float32)

    def __reduce__(self) -> Any:
        size, stride = tuple(self.tensor.shape), self.tensor.stride()
        return torch._utils._rebuild_tensor_v2, (
            OnCard.Storage(self.tensor),
            0,
            size,
            stride,
            False,
            OrderedDict(),
        )

    class Storage:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

        def __reduce__(self) -> Any:
            held = io.BytesIO()
            with mock.patch("torch.serialization.location_tag", lambda storage: "cuda:0"):
                torch.save(self.tensor.storage(), held, _use_new_zipfile_serialization=False)
            return torch.storage._load_from_bytes, (held.getvalue(),)


class Tree:
    """Turns our modules into what the original pickles: attributes in stand-in objects."""

    def __init__(self, classes: dict[str, Any], source: str) -> None:
        self.classes, self.source = classes, source

    def persistent(self, class_name: str, state: dict[str, Any]) -> Persistent:
        return Persistent(self.classes["_reconstruct_persistent_obj"], class_name, self.source, state)

    def attributes(self, module: nn.Module) -> dict[str, Any]:
        return {
            "training": False, "_parameters": OrderedDict(module._parameters),
            "_buffers": OrderedDict(module._buffers), "_non_persistent_buffers_set": set(),
            "_forward_hooks": OrderedDict(), "_modules": {n: self.stored(m) for n, m in module._modules.items()},
            "_init_args": (), "_init_kwargs": self.easy({}), "weight_gain": np.float64(0.125),
        }  # fmt: skip

    def easy(self, values: dict[str, Any]) -> Any:
        made = self.classes["EasyDict"]()
        made.update({k: self.easy(v) if isinstance(v, dict) else v for k, v in values.items()})
        return made

    def plain(self, name: str, values: dict[str, Any]) -> Any:
        thing = self.classes[name]()
        thing.__dict__.update({"_parameters": {}, "_buffers": {}, "_modules": {}} | values)
        return thing

    def stored(self, module: nn.Module) -> Any:
        if isinstance(module, nn.Sequential):
            whole = nn.Sequential()
            whole._modules = {n: self.stored(m) for n, m in module._modules.items()}
            return whole
        if isinstance(module, nn.Softplus):
            return module
        if type(module).__name__ == "Decoder":
            return self.plain(
                "OSGDecoder", {"_modules": {n: self.stored(m) for n, m in module._modules.items()}}
            )
        return self.persistent(type(module).__name__, self.attributes(module))


def write_network(
    path: Path,
    network: nn.Module,
    init_kwargs: dict[str, Any],
    resolution: int,
    source: str = "",
    planes: Any = PLANES,
    extra: Any = None,
    protocol: int = 4,
    decoder_module: str = "",
) -> None:
    """Write `{training_set_kwargs, G, D, G_ema, augment_pipe}`.

    Args:
        path: of the file.
        network: an `Eg3d`.
        init_kwargs: as the original's constructor was called.
        resolution: its attribute `neural_rendering_resolution`.
        source: text of the modules.
        planes: axes that the renderer keeps.
        extra: any object, put among the attributes of the backbone.
        protocol: of pickle; 3 with numpy's older module name.
        decoder_module: another name of the decoder's module.
    """
    with stand_ins(decoder_module) as classes:
        tree = Tree(classes, source)
        whole = tree.attributes(network)
        whole["_modules"] |= {
            "renderer": tree.plain("ImportanceRenderer", {"plane_axes": OnCard(planes)}),
            "ray_sampler": tree.plain("RaySampler", {}),
        }
        whole["_buffers"] = {"dataset_label_std": torch.ones(25)}
        whole |= {
            "_init_kwargs": tree.easy(init_kwargs), "rendering_kwargs": tree.easy(init_kwargs["rendering_kwargs"]),
            "neural_rendering_resolution": resolution, "_last_planes": None,
        }  # fmt: skip
        if extra is not None:
            whole["_modules"]["backbone"].meta["state"]["extra"] = extra
        made = tree.persistent("TriPlaneGenerator", whole)
        content = {
            "training_set_kwargs": {"path": "a"},
            "G": made,
            "D": None,
            "G_ema": made,
            "augment_pipe": None,
        }
        data = pickle.dumps(content, protocol)
    if protocol == 3:
        data = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    path.write_bytes(data)


def write_encoder(path: Path, network: nn.Module, source: str) -> None:
    """Write `{E}`, the encoder of 3D-aware blending, with the fixed numbers of its labels living on a graphics card."""
    with stand_ins() as classes:
        tree = Tree(classes, source)
        whole = tree.attributes(network) | {"intrinsic": OnCard([0.0] * 13)}
        path.write_bytes(pickle.dumps({"E": tree.persistent("Encoder", whole)}, 4))
