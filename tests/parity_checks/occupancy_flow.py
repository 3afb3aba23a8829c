# SPDX-License-Identifier: GPL-3.0-or-later
"""Occupancy Flow: codes, velocity, transported points and evaluation counts, key tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from maquette.core.models.occupancy_flow import network
from maquette.core.models.parts.key_shapes import shapes_of

from .fixture import Check, Fixture
from .networks import filled, key_tables, tensors

VELOCITY_TIME = 0.37
"""Stated in the fixtures' README only."""


def check_small(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    yield from ((name, value) for name, value in computed(fixture).items() if not name.startswith("nfe"))
    frames = torch.from_numpy(fixture.expected["pcl/in/x"])
    for case in fixture.cases():
        weights = fixture.group(f"{case}/w")
        if case == "pcl":
            continue
        encoder = filled(
            network.encoder_from(network.encoder_config_from(shapes_of(tensors(weights)))), weights
        )
        if case == "two":
            yield "two/out/c", encoder(frames)
        else:
            single = weights["fc_pos.weight"].shape[1] == 3
            mean, logstd = encoder(frames[:, 0] if single else network.stacked(frames))
            yield f"{case}/out/mean", mean
            yield f"{case}/out/logstd", logstd


def computed(fixture: Fixture) -> dict[str, Any]:
    """Everything of the case `pcl`, and the counts of evaluations."""
    given, weights = tensors(fixture.group("pcl/in")), fixture.group("pcl/w")
    numbers = fixture.neighbour("occflow_expected.json")
    tolerance = numbers["rtol"], numbers["atol"]
    model = filled(network.OccupancyFlow(network.config_from(shapes_of(tensors(weights)))), weights)
    c_s, c_t = model.encode(given["x"])
    p, batch = given["p"], len(given["p"])
    out: dict[str, Any] = {"pcl/out/c_s": c_s, "pcl/out/c_t": c_t}
    out["pcl/out/velocity_t037"] = model.velocity(torch.full((batch,), VELOCITY_TIME), p, c_t)
    times = given["t"].tolist()
    out["pcl/out/forward"], out["nfe_forward"] = model.move(p, c_t, times, tolerance=tolerance)
    out["pcl/out/forward_tight"], _ = model.move(p, c_t, times, tolerance=(1e-6, 1e-8))
    one = torch.ones(batch)
    out["pcl/out/backward"], out["nfe_backward"] = model.move(p, c_t, times, one, tolerance)
    own = sorted(set(given["t_batch"].tolist()))
    moved, out["nfe_to_t0"] = model.move(p, c_t, own, given["t_batch"], tolerance)
    at_zero = torch.stack([moved[i, own.index(t)] for i, t in enumerate(given["t_batch"].tolist())])
    out["pcl/out/to_t0"] = at_zero
    out["pcl/out/logits_t0"] = model.logits(at_zero, torch.zeros(batch, 0), c_s)
    return out


def check_numbers(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    arrays = Fixture(fixture.path.with_name("occflow_small.safetensors"))
    yield from ((name, value) for name, value in computed(arrays).items() if name.startswith("nfe"))


def _table(name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.nn.Module]:
    return {"": network.OccupancyFlow(network.config_from(shapes))}


CHECKS = {
    "occflow_small.safetensors": Check(check_small),
    "occflow_expected.json": Check(check_numbers, inputs=("rtol", "atol")),
    "keys_occflow.json": Check(key_tables(_table)),
}
