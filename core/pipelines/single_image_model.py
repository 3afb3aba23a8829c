# SPDX-License-Identifier: GPL-3.0-or-later
"""Which model turns one picture into a field: the named one, else the best that is installed, else the bundled one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InputError, MissingError
from ..jobs import warm
from ..models.lrm.object_lrm import ObjectLRM
from ..weights.networks import load_network
from ..weights.safe_loader import read_checkpoint
from ..weights.store import find_installed, identify, installed_models
from .field_to_result import precision

BUNDLED = Path(__file__).parents[1] / "weights" / "object_lrm" / "object_lrm.safetensors"
BUNDLED_NAME = "object_lrm"
LAYOUTS = ("triposr", "openlrm")
"""Layouts of the artist's models that serve, best first; an installed model was chosen, so it goes before the bundled one."""


@dataclass(frozen=True)
class SingleImageModel:
    """A model that is there."""

    name: str
    layout: str
    path: Path
    card: dict[str, Any]
    """For the result: name, licence, source."""

    def network(self, device: torch.device) -> nn.Module:
        """The network in eval mode on the device; it stays loaded for the next job.

        Raises:
            InputError, MissingError, FailedError: as `load_network`; MODEL_MISSING for a bundled file that is gone.
        """
        try:
            changed = self.path.stat().st_mtime_ns
        except OSError as error:
            raise missing(self.name) from error
        return warm.loaded(
            ("single image", str(self.path), changed, str(device)), lambda: self._load(device).to(device)
        )

    def _load(self, device: torch.device) -> nn.Module:
        if self.layout == BUNDLED_NAME:
            return ObjectLRM.from_file(self.path)
        return load_network(self.path, precision(device))[1].requires_grad_(False)

    def side(self) -> int:
        """Pixels of the input picture where the file says it (OpenLRM 1.0), else 0."""
        if self.layout != "openlrm" or self.path.suffix == ".safetensors":
            return 0

        def read() -> int:
            infer = read_checkpoint(self.path).settings.get("kwargs", {}).get("infer", {})
            return int(infer.get("source_size", 0))

        return warm.loaded(("single image side", str(self.path)), read)


def find_single_image_model(name: str = "") -> SingleImageModel:
    """The model to use.

    Args:
        name: of an installed model or of the bundled one, or a weight file; empty: the best that is there.

    Raises:
        MissingError: MODEL_MISSING where none is there, MODEL_NOT_INSTALLED for a name that is not.
        InputError: MODEL_OTHER_TASK for a model of another kind; as `store.identify` for a file.
    """
    if not name:
        return single_image_models()[0]
    if name == BUNDLED_NAME:
        return _bundled()
    if Path(name).is_file():
        layout = identify(Path(name))
        return _fit(SingleImageModel(Path(name).stem, layout, Path(name), {"name": Path(name).name}))
    model = find_installed(name)
    wanted = ("title", "licence", "commercial", "source")
    about: dict[str, Any] = {"name": model.name, **{k: v for k, v in model.card.items() if k in wanted}}
    return _fit(SingleImageModel(model.name, model.layout, model.path, about))


def single_image_models() -> list[SingleImageModel]:
    """All that are there, best first.

    Raises:
        MissingError: MODEL_MISSING where none is.
    """
    installed = [model for model in installed_models() if model.layout in LAYOUTS]
    installed.sort(key=lambda model: LAYOUTS.index(model.layout))
    found = [find_single_image_model(model.name) for model in installed]
    return [*found, _bundled()] if BUNDLED.is_file() or not found else found


def missing(name: str = "") -> MissingError:
    """No model for single pictures."""
    return MissingError(
        "MODEL_MISSING",
        f"The model {name or 'for single pictures'} is not there.",
        "Download one (maquette models download triposr), or add a file that you have (maquette models add FILE).",
    )


def _bundled() -> SingleImageModel:
    if not BUNDLED.is_file():
        raise missing()
    card = {"name": BUNDLED_NAME, "title": "Maquette's own", "licence": "CC0-1.0", "commercial": "yes"}
    return SingleImageModel(BUNDLED_NAME, BUNDLED_NAME, BUNDLED, card)


def _fit(model: SingleImageModel) -> SingleImageModel:
    if model.layout not in LAYOUTS:
        raise InputError(
            "MODEL_OTHER_TASK",
            f"{model.name} is {model.layout}, which makes no mesh of one picture.",
            f"Use a model of {' or '.join(LAYOUTS)}.",
        )
    return model
