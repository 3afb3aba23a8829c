# SPDX-License-Identifier: GPL-3.0-or-later
"""Which generator makes heads: the named one, else the bundled one, else the best that is installed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError, MissingError
from ..jobs import warm
from ..models.eg3d.cameras import frontal_label
from ..models.eg3d.generator import BORDER, LEVEL, Eg3d
from ..models.eg3d.head_field import HeadField
from ..models.heads.faces import POSE_WEIGHTS
from ..models.heads.faces import WEIGHTS as PARSER_WEIGHTS
from ..models.heads.generator import WEIGHTS, HeadGenerator, load_generator
from ..models.heads.parser import HeadParser
from ..models.heads.pose_reader import PoseReader
from ..weights.networks import load_network
from ..weights.store import find_installed, identify, installed_models
from .field_to_result import precision

BUNDLED, BUNDLED_NAME = WEIGHTS, "heads"
LAYOUT = "eg3d"
PORTRAIT = 0.8
"""Zoom of our generators' portraits."""
WHOLE = 0.7
"""Zoom at which pictures show a head with its hair and neck."""


@dataclass(frozen=True)
class OpenModel:
    """A generator that is loaded."""

    model: HeadModel
    network: Eg3d
    """In eval mode, without gradients."""
    level: float = LEVEL
    """Raw density on the surface."""
    border: float = BORDER
    """Share of the box left out at each face: public networks have a wall of background there."""
    ours: HeadGenerator | None = None

    @property
    def bare(self) -> bool:
        """Nothing stands behind its heads, which are whole all round: true of ours, not of public networks."""
        return self.ours is not None

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.network.backbone.mapping.w_avg.device

    @property
    def mean_ws(self) -> Tensor:
        """(1, rows, w_width) the mean head."""
        return self.network.backbone.mapping.w_avg.expand(1, self.network.config.rows, -1)

    @property
    def frontal(self) -> Tensor:
        """(1, 25) the camera in front, on which the published programs condition."""
        rendering = self.network.config.rendering
        label = frontal_label(rendering.avg_camera_radius, rendering.avg_camera_pivot)
        return torch.from_numpy(label)[None].to(self.device)

    @property
    def zoom(self) -> float:
        """Focal length of portraits over the published crop's: hair reaches beyond that crop, and ours have learnt both."""
        return PORTRAIT if self.bare else 1.0

    @property
    def whole_focal(self) -> float:
        """Focal length, in widths of the picture, at which a head is seen whole; public networks know their crop alone."""
        return float(self.frontal[0, 16]) * (WHOLE if self.bare else 1.0)

    @property
    def portrait(self) -> Tensor:
        """(1, 25) the camera in front that sees what a portrait shows."""
        return zoomed(self.frontal, self.zoom)

    def latent(self, seed: int, truncation: float = 1.0) -> Tensor:
        """(1, rows, w_width) of a seed; of public networks as the published programs draw it."""
        with torch.no_grad():
            if self.ours is not None:
                z = self.ours.z(seed)
            else:
                z = torch.from_numpy(np.random.RandomState(seed).randn(1, self.network.config.z_width))
            return self.network.mapping(z.float().to(self.device), self.frontal, truncation)

    def field(self, network: Eg3d, planes: Tensor) -> HeadField:
        """Planes (3, C, S, S) of this network, or of a tuned one, as a field."""
        return network.field(planes, self.level, self.border)


@dataclass(frozen=True)
class HeadModel:
    """A generator that is there."""

    name: str
    path: Path
    own: bool = False
    """The bundled one, or another of our training."""
    card: dict[str, Any] = field(default_factory=dict)
    """For the result: name, licence, source."""

    def open(self, device: torch.device) -> OpenModel:
        """The generator; it stays loaded for the next job.

        Raises:
            InputError, MissingError, FailedError: as `load_network`; HEAD_MODEL_MISSING for a file that is gone.
        """
        try:
            changed = self.path.stat().st_mtime_ns
        except OSError as error:
            raise missing(self.name) from error
        return warm.loaded(("heads", str(self.path), changed, str(device)), lambda: self._load(device))

    def _load(self, device: torch.device) -> OpenModel:
        if self.own:
            ours = load_generator(self.path)
            ours.network.to(device)
            return OpenModel(self, ours.network, ours.level, ours.border, ours)
        network = load_network(self.path)[1]
        assert isinstance(network, Eg3d)
        network.superresolution.precision = precision(device)
        return OpenModel(self, network.requires_grad_(False).to(device))


def find_head_model(name: str = "") -> HeadModel:
    """The generator to use.

    Args:
        name: of an installed model or of the bundled one, or a weight file; empty: the bundled one, else one that is
            installed.

    Raises:
        MissingError: HEAD_MODEL_MISSING where none is there, MODEL_NOT_INSTALLED for a name that is not.
        InputError: MODEL_OTHER_TASK for a model of another kind; as `store.identify` for a file.
    """
    if not name:
        if BUNDLED.is_file():
            return _bundled()
        found = [model for model in installed_models() if model.layout == LAYOUT]
        if not found:
            raise missing()
        name = found[0].name
    if name == BUNDLED_NAME:
        return _bundled()
    if Path(name).is_file():
        path = Path(name)
        if is_ours(path):
            return HeadModel(path.stem, path, True, {"name": path.name})
        return _fit(HeadModel(path.stem, path, False, {"name": path.name}), identify(path))
    model = find_installed(name)
    wanted = ("title", "licence", "commercial", "source")
    about: dict[str, Any] = {"name": model.name, **{k: v for k, v in model.card.items() if k in wanted}}
    return _fit(HeadModel(model.name, model.path, False, about), model.layout)


def zoomed(label: Tensor, zoom: float) -> Tensor:
    """The label (1, 25) with its focal lengths multiplied."""
    out = label.clone()
    out[:, [16, 20]] *= zoom
    return out


def is_ours(path: Path) -> bool:
    """Whether a file was written by `training/heads`: its metadata hold our configuration under a name of our own."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, "pt") as file:
            return "plane_axes" in (file.metadata() or {}).get("config", "")
    except (OSError, SafetensorError):
        return False


def head_parser() -> HeadParser:
    """The bundled reader of faces; it stays loaded."""
    return warm.loaded(("head parser", str(PARSER_WEIGHTS)), lambda: HeadParser.from_file(PARSER_WEIGHTS))


def pose_reader() -> PoseReader:
    """The bundled pose encoder; it stays loaded."""
    return warm.loaded(("head pose", str(POSE_WEIGHTS)), lambda: PoseReader.from_file(POSE_WEIGHTS))


def fingerprint(network: Eg3d) -> str:
    """16 letters that tell one generator from another: its sizes, its mean latent and the last network of its points."""
    state = network.state_dict()
    digest = hashlib.sha256(json.dumps(network.config.as_json(), sort_keys=True).encode())
    for name in sorted(n for n in state if n.startswith("decoder.") or n.endswith("w_avg")):
        digest.update(state[name].float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def missing(name: str = "") -> MissingError:
    """No generator of heads."""
    return MissingError(
        "HEAD_MODEL_MISSING",
        f"The generator {name or 'of heads'} is not there.",
        "Install the extension again, or add an EG3D file that you have (maquette models add FILE).",
    )


def _bundled() -> HeadModel:
    if not BUNDLED.is_file():
        raise missing()
    card = {"name": BUNDLED_NAME, "title": "Maquette's own heads", "licence": "CC0-1.0", "commercial": "yes"}
    return HeadModel(BUNDLED_NAME, BUNDLED, True, card)


def _fit(model: HeadModel, layout: str) -> HeadModel:
    if layout != LAYOUT:
        raise InputError(
            "MODEL_OTHER_TASK",
            f"{model.name} is {layout}, which makes no heads.",
            "Use an EG3D generator.",
        )
    return model
