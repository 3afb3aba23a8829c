# SPDX-License-Identifier: GPL-3.0-or-later
"""The latent of a head beside its result, and how its generator was tuned: what regenerating, mixing and blending start from."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError
from ..fit.inversion import Portrait
from ..models.eg3d.generator import Eg3d
from .head_model import BUNDLED, OpenModel, fingerprint

FILE = "head.safetensors"
DELTA, PORTRAIT = "delta.", "portrait."


@dataclass(frozen=True)
class HeadCode:
    """A head as its generator knows it."""

    ws: Tensor
    """(1, rows, w_width) float32."""
    label: Tensor
    """(1, 25) camera of its picture."""
    model: str
    """Name or file of the generator."""
    fingerprint: str
    """Of the generator before tuning (`head_model.fingerprint`)."""
    delta: dict[str, Tensor] = field(default_factory=dict)
    """Parameter -> what tuning added to it; empty: not tuned. The artist's own file is never changed."""
    portrait: dict[str, Tensor] = field(default_factory=dict)
    """Of an inverted photo, uint8: `picture` (1, 3, P, P), and `mask` and `care` (1, 1, P, P) where it has them."""

    def tuned(self, network: Eg3d) -> Eg3d:
        """The generator of this head; `network` itself where nothing was tuned.

        Raises:
            InputError: HEAD_OTHER_MODEL.
        """
        self.check(network)
        if not self.delta:
            return network
        made = copy.deepcopy(network)
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if name in self.delta:
                    parameter.add_(self.delta[name].to(parameter))
        return made

    def check(self, network: Eg3d) -> None:
        """Raises InputError HEAD_OTHER_MODEL where another generator made this head."""
        if self.fingerprint != fingerprint(network):
            raise InputError(
                "HEAD_OTHER_MODEL",
                f"This head was made by another generator ({Path(self.model).name}).",
                "Choose that generator, or make the head anew.",
            )

    def mixed(self, other: HeadCode, share: float) -> HeadCode:
        """On the way to another head of the same generator, latent and tuning alike; its own camera stays."""
        names = set(self.delta) | set(other.delta)
        delta = {
            name: (1 - share) * self.delta.get(name, torch.zeros(()))
            + share * other.delta.get(name, torch.zeros(()))
            for name in sorted(names)
        }
        return replace(self, ws=torch.lerp(self.ws, other.ws.to(self.ws), share), delta=delta, portrait={})

    def save(self, folder: Path) -> None:
        """Write `head.safetensors`; what tuning added in half precision (it is small)."""
        tensors = {"ws": self.ws, "label": self.label}
        tensors |= {DELTA + name: tensor.half() for name, tensor in self.delta.items()}
        tensors |= {PORTRAIT + name: tensor for name, tensor in self.portrait.items()}
        about = {"head": json.dumps({"model": self.model, "fingerprint": self.fingerprint})}
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, folder / FILE, about)


def read_code(folder: Path) -> HeadCode:
    """Inverse of `HeadCode.save`.

    Raises:
        InputError: NOT_A_HEAD.
    """
    try:
        with safe_open(folder / FILE, "pt") as file:
            about = json.loads(file.metadata()["head"])
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        delta = {n.removeprefix(DELTA): t.float() for n, t in tensors.items() if n.startswith(DELTA)}
        portrait = {n.removeprefix(PORTRAIT): t for n, t in tensors.items() if n.startswith(PORTRAIT)}
        ws, label = tensors["ws"].float(), tensors["label"].float()
        return HeadCode(ws, label, about["model"], about["fingerprint"], delta, portrait)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            "NOT_A_HEAD",
            f"{folder.name} is not the result of Generate Head, Head from Photo or Blend Heads.",
            "Choose a head that Maquette made, or a photo.",
        ) from error


def difference(tuned: Eg3d, network: Eg3d) -> dict[str, Tensor]:
    """What tuning added, parameter by parameter; those that stayed are left out."""
    before = dict(network.named_parameters())
    found = {name: (after - before[name]).detach() for name, after in tuned.named_parameters()}
    return {name: delta for name, delta in found.items() if bool((delta != 0).any())}


def code_of(
    opened: OpenModel, ws: Tensor, label: Tensor, tuned: Eg3d | None = None, portrait: Portrait | None = None
) -> HeadCode:
    """The code of a head that was just made."""
    model, network = opened.model, opened.network
    asked = model.name if model.path == BUNDLED else str(model.path)
    delta = {} if tuned is None or tuned is network else difference(tuned, network)
    kept = {} if portrait is None else _packed(portrait)
    return HeadCode(ws.detach().cpu(), label.detach().cpu(), asked, fingerprint(network), delta, kept)


def portrait_of(code: HeadCode) -> Portrait | None:
    """The picture that the head was made of; None where it is made up."""
    if not code.portrait:
        return None
    planes = {name: value.float() / 255 for name, value in code.portrait.items()}
    return Portrait(planes["picture"] * 2 - 1, code.label, planes.get("mask"), planes.get("care"))


def _packed(portrait: Portrait) -> dict[str, Tensor]:
    planes = {"picture": (portrait.picture + 1) / 2, "mask": portrait.mask, "care": portrait.care}
    return {
        name: (value.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        for name, value in planes.items()
        if value is not None
    }
