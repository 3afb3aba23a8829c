# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the level on the validation objects and write the weights: `python -m training.object_lrm.export`.

The moving average of the weights, half precision, with configuration, licence and the checkpoint's step as metadata.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from maquette.core.models.lrm.object_lrm import ObjectLRM, config_text
from safetensors.torch import save_file

from .dataset import Records
from .validate import validate

LEVELS = (-1.0, -0.7, -0.4, -0.2, 0.0)
"""Logits of being inside that are tried as the surface."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--checkpoint", type=Path, required=True)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    options = arguments.parse_args()
    state = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    model = ObjectLRM().eval()
    model.load_state_dict(state["average"])
    held = Records(options.data, "validation")
    scores = {level: validate(model, held, count=128, level=level, view=1) for level in LEVELS}
    for level, row in scores.items():
        print(level, row)
    best = max(scores, key=lambda level: scores[level]["f10"])
    write(model, best, options.out, {"step": str(state["step"]), "validation": json.dumps(scores[best])})


def write(model: ObjectLRM, level: float, path: Path, about: dict[str, str]) -> None:
    """`ObjectLRM.from_file` reads it; `level` is the logit of the surface."""
    config = replace(model.config, level=math.exp(level))
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, about | {"config": config_text(config), "licence": "CC0-1.0"})


if __name__ == "__main__":
    main()
