# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a run from the weights of one without inflation: `python -m training.object_lrm.inheritance`.

What the old network saw it sees through the same weights; the channels that are new to it start at zero. Its logit counts
`--share`, beside that of the inflated mask (both chosen on the validation objects). Optimisers and steps start afresh.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from maquette.core.models.lrm.object_lrm import ObjectLRM
from torch import Tensor

from .train import Run


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--checkpoint", type=Path, required=True)
    arguments.add_argument("--share", type=float, default=1.0)
    arguments.add_argument("--out", type=Path, required=True, help="folder of the new run")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    state = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    run = Run(0.0, 1, torch.device("cpu"))
    inherit(run.model, state["average"], options.share)
    run.average.load_state_dict(run.model.state_dict())
    run.cpu_seconds = state["cpu_seconds"]
    run.save(options.out / "checkpoint.pt")


@torch.no_grad()
def inherit(model: ObjectLRM, old: Mapping[str, Tensor], share: float) -> None:
    """Weights of a network with slope 0 -> `model`, which has one."""
    config = model.config
    first, last = "decoder.layers.0.weight", f"decoder.layers.{len(model.decoder.layers) - 1}"
    for name, tensor in model.state_dict().items():
        if name == first:  # three planes, each with its new features behind the old ones
            new, seen = tensor.unflatten(1, (3, -1)), old[name].unflatten(1, (3, -1))
        else:
            new, seen = tensor, old[name]
        new.zero_()
        new[tuple(slice(size) for size in seen.shape)] = seen
    state = model.state_dict()
    state[f"{last}.weight"][0] *= share
    state[f"{last}.bias"][0] = share * state[f"{last}.bias"][0] - config.slope


if __name__ == "__main__":
    main()
