# SPDX-License-Identifier: GPL-3.0-or-later
"""Training of the head generator goes on from its checkpoint, and from exported weights in a clone that has none."""

from __future__ import annotations

from pathlib import Path

import torch

from training.heads.export_generator import averaged, write
from training.heads.generator_config import generator_config
from training.heads.train_generator import Run


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
