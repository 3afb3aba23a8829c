# SPDX-License-Identifier: GPL-3.0-or-later
"""Training of the head generator goes on from its checkpoint, and from exported weights in a clone that has none."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from maquette.core.models.heads.codes import codes

from training.heads import train_bends
from training.heads.export_generator import averaged, write
from training.heads.generator_config import generator_config
from training.heads.train_generator import Run, planes_of, said_at


def stepped(seed: int) -> Run:
    """A run after one step down a made-up loss."""
    torch.manual_seed(seed)
    run = Run(generator_config(64), 1e-3)
    run.apply(sum(p.square().sum() for p in run.model.parameters() if p.requires_grad), 1.0)
    run.heads = 3
    return run


def test_a_run_goes_on_exactly_from_its_checkpoint(tmp_path: Path) -> None:
    run, other = stepped(0), stepped(1)
    run.save(tmp_path / "checkpoint.pt")
    other.load(tmp_path / "checkpoint.pt")
    assert (other.step, other.heads) == (1, 3)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    assert other.optimiser.state_dict()["state"].keys() == run.optimiser.state_dict()["state"].keys()


def test_a_clone_begins_with_the_exported_weights_to_half_precision(tmp_path: Path) -> None:
    run, clone = stepped(0), stepped(1)
    run.save(tmp_path / "checkpoint.pt")
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    write(averaged(state), tmp_path / "g.safetensors", {"step": "1", "heads": "3"})
    clone.start(tmp_path / "g.safetensors")
    assert (clone.step, clone.heads) == (1, 3)
    for name in ("decoder.net.0.weight", "backbone.synthesis.b32.const"):
        wanted = run.average[name]
        assert torch.allclose(
            clone.model.state_dict()[name], wanted, atol=1e-3 * float(wanted.abs().max())
        ), name


def test_bends_learn_a_law_that_is_linear_in_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads that the first number of the code moves along x: unseen codes are moved as far, and space goes on from there."""

    def sketch(seed: int) -> train_bends.Sketch:
        code = codes(seed)[0]
        points = torch.rand(train_bends.POINTS, 3, generator=torch.Generator().manual_seed(seed)) * 0.8 - 0.4
        shift = torch.zeros_like(points)
        shift[:, 0] = 0.3 * code[0]
        return train_bends.Sketch(code, points.half(), shift.half(), torch.full_like(points, 0.5).half())

    class Ready:
        def __init__(self, *ignored: object) -> None:
            self.waiting = [(seed, sketch(seed)) for seed in range(1000, 1500)]

        def take(self, least: int = 0) -> list[tuple[int, train_bends.Sketch]]:
            given, self.waiting = self.waiting, []
            return given

    monkeypatch.setattr(train_bends, "Makers", Ready)
    options = argparse.Namespace(
        packs=tmp_path, out=tmp_path, steps=400, fall=300, rate=1e-2, batch=16, points=60, makers=1, save_every=1e9
    )  # fmt: skip
    config = replace(generator_config(64), bend_side=8)
    run = Run(config, options.rate)
    train_bends.train(run, options)
    other = Run(config, 1e-3)
    other.load(tmp_path / "checkpoint.pt")
    assert other.step == 400
    unseen = [sketch(seed) for seed in range(100, 110)]
    planes = planes_of(other.model, torch.stack([item.code for item in unseen]))
    points = torch.stack([item.points.float() for item in unseen])
    found = said_at(other.model, planes, points)[2].detach()
    wanted = torch.stack([item.shift.float() for item in unseen])
    apart, size = float((found - wanted).abs().mean()), float(wanted.abs().mean())
    assert apart < 0.3 * size, (apart, size)
