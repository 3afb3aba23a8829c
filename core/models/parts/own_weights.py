# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of our own training and their weight files: safetensors whose metadata hold the configuration as JSON under `config`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from safetensors import safe_open
from torch import Tensor, nn

from ...errors import InputError

Network = TypeVar("Network", bound=nn.Module)


def read_own(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The configuration's JSON, and the tensors as float32.

    Raises:
        OSError, SafetensorError, KeyError: the file is gone, damaged, or not one of ours.
    """
    with safe_open(path, "pt") as file:
        return file.metadata()["config"], {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118


def with_weights(model: Network, tensors: Mapping[str, Tensor], title: str) -> Network:
    """The model with these weights, float32, in eval mode, without gradients.

    Args:
        title: what the model is called in the message.

    Raises:
        InputError: WEIGHTS_MISMATCH when names or shapes differ.
    """
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise InputError(
            "WEIGHTS_MISMATCH",
            f"These are not the weights of {title}: {error}.",
            "Install the extension again.",
        ) from error
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class OwnConfig:
    """Sizes of a network of ours, as numbers and tuples of them."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of `text`."""
        values: dict[str, Any] = json.loads(text)
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})

    @property
    def text(self) -> str:
        """For the metadata of a weight file."""
        return json.dumps(asdict(self))


class OwnNetwork(nn.Module):
    """A network of ours, which is made of its configuration alone."""

    TITLE: ClassVar[str]
    """What it is called in messages."""
    CONFIG: ClassVar[type[OwnConfig]]

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: OwnConfig) -> Self:
        """The network with these weights, float32, in eval mode.

        Raises:
            InputError: WEIGHTS_MISMATCH when names or shapes differ.
        """
        return with_weights(cls(config), tensors, cls.TITLE)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The network from a safetensors file whose metadata hold its configuration.

        Raises:
            InputError, OSError, SafetensorError, KeyError: as `from_tensors` and `read_own`.
        """
        config, tensors = read_own(path)
        return cls.from_tensors(tensors, cls.CONFIG.from_json(config))
