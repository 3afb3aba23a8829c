# SPDX-License-Identifier: GPL-3.0-or-later
"""Key lists of the full-size public models, from networks without data on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from maquette.core.models.loftr import network as loftr_network
from maquette.core.models.lrm.openlrm import ENCODERS, OpenLRM, OpenLRMConfig, layout_of
from maquette.core.models.lrm.triposr import LAYOUT, TripoSR
from maquette.core.models.sparseneus import model as sparseneus_model
from maquette.core.models.zero123 import layouts as zero123_layouts
from maquette.core.models.zero123.model import Zero123

from .fixture import Check, Fixture

Shapes = dict[str, list[int]]


def triposr() -> Shapes:
    """stabilityai/TripoSR, model.ckpt."""
    return LAYOUT.public_shapes(TripoSR())


def openlrm(
    version: str, encoder: str, width: int, layers: int, heads: int, features: int
) -> Callable[[], Shapes]:
    """zxhezexin/openlrm-*."""
    config = OpenLRMConfig(version, ENCODERS[encoder], 1024, width, layers, heads, features=features)
    return lambda: layout_of(config).public_shapes(OpenLRM(config))


def zero123() -> Shapes:
    """cvlab/zero123-weights, what a sampler needs of them."""
    return zero123_layouts.public_shapes(Zero123())


def sparseneus() -> Shapes:
    """One-2-3-45/code, ckpt_215000.pth."""
    return sparseneus_model.LAYOUT.public_shapes(sparseneus_model.SparseNeuS())


def loftr() -> Shapes:
    """indoor_ds_new.ckpt without its prefix."""
    return loftr_network.LAYOUT.public_shapes(loftr_network.LoFTR())


MODELS: dict[str, Callable[[], Shapes]] = {
    "triposr": triposr,
    "openlrm_small_1.1": openlrm("1.1", "dinov2_vits14_reg", 512, 12, 8, 32),
    "openlrm_base_1.1": openlrm("1.1", "dinov2_vitb14_reg", 768, 12, 12, 48),
    "openlrm_large_1.1": openlrm("1.1", "dinov2_vitb14_reg", 1024, 16, 16, 80),
    "openlrm_small_1.0": openlrm("1.0", "facebook/dino-vitb16", 768, 12, 12, 32),
    "openlrm_base_1.0": openlrm("1.0", "facebook/dino-vitb16", 1024, 12, 16, 40),
    "zero123_ldm": zero123,
    "one2345_sparseneus_lod0": sparseneus,
    "loftr_indoor_ds": loftr,
}


def full_size(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    """One expectation per key: `model/name`, its shape."""
    for model, shapes in MODELS.items():
        with torch.device("meta"):
            yield from ((f"{model}/{name}", shape) for name, shape in shapes().items())


CHECKS = {"full_size_keys.json": Check(full_size)}
