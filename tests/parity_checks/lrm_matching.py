# SPDX-License-Identifier: GPL-3.0-or-later
"""Parity of LoFTR with the arrays of fixtures/lrm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from maquette.core.models.loftr.network import LoFTR, LoFTRConfig

from .fixture import Check, Fixture


def loftr(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    """Every array of loftr_mini_expected."""
    x = {name: torch.from_numpy(value) for name, value in fixture.expected.items()}
    weights = fixture.neighbour("loftr_mini_weights.safetensors")
    config = LoFTRConfig.from_public(fixture.neighbour("loftr_mini_config.json"))
    model = LoFTR.from_public({k: torch.from_numpy(v) for k, v in weights.items()}, config)
    with torch.no_grad():
        coarse, fine = model.backbone(torch.stack([x["image0"], x["image1"]]))
        matches = model(x["image0"], x["image1"])
    yield "feat_coarse", coarse
    yield "feat_fine", fine[:, :, ::2, ::2]  # stored at every second row and column
    yield "conf_matrix", matches.coarse_confidence
    yield "mkpts0", matches.points0
    yield "mkpts1", matches.points1
    yield "mconf", matches.confidence
    yield "expec_f", matches.expectation


CHECKS = {"loftr_mini_expected.safetensors": Check(loftr, ("image0", "image1"))}
