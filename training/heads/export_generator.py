# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the generator's averaged weights: `python -m training.heads.export_generator --checkpoint FILE --out FILE`.

Half precision; the mean of the latent rows over 4,096 codes goes in as `w_avg`, which truncation pulls towards.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from maquette.core.models.eg3d.configuration import Eg3dConfig
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.heads.codes import codes
from maquette.core.models.heads.generator import left_out
from safetensors.torch import save_file

MEAN_OF, MEAN_SEED = 4096, 77


def averaged(state: dict[str, Any]) -> Eg3d:
    """The network of a checkpoint with its averaged weights."""
    network = Eg3d(Eg3dConfig.from_json(state["config"]))
    network.load_state_dict(state["average"])
    network.eval().requires_grad_(False)
    label = torch.zeros(MEAN_OF, network.config.label_width)
    rows = network.mapping(codes(MEAN_SEED, MEAN_OF), label)
    network.backbone.mapping.w_avg.copy_(rows[:, 0].mean(0))
    network.hold_channels_last()
    return network


def write(network: Eg3d, path: Path, about: dict[str, str]) -> None:
    """`heads.generator.load_generator` reads it."""
    tensors = {
        name: value.half().contiguous() for name, value in network.state_dict().items() if not left_out(name)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    config = json.dumps(network.config.as_json())
    save_file(tensors, path, about | {"config": config, "licence": "CC0-1.0"})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--checkpoint", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    options = arguments.parse_args()
    state = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    write(averaged(state), options.out, {"step": str(state["step"]), "heads": str(state["heads"])})


if __name__ == "__main__":
    main()
