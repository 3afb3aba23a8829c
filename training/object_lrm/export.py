# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the weights of a checkpoint: `python -m training.object_lrm.export --checkpoint FILE --data FOLDER --out FILE`.

The moving average of the weights, half precision, with configuration, licence, the checkpoint's step and its scores on the
validation objects as metadata.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from maquette.core.models.lrm.object_lrm import ObjectLRM
from safetensors.torch import save_file

from .dataset import Records
from .validate import validate


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--checkpoint", type=Path, required=True)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    options = arguments.parse_args()
    state = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    model = ObjectLRM().eval()
    model.load_state_dict(state["average"])
    scores = validate(model, Records(options.data, "validation"), view=1)
    print(scores)
    write(model, options.out, {"step": str(state["step"]), "validation": json.dumps(scores)})


def write(model: ObjectLRM, path: Path, about: dict[str, str]) -> None:
    """`ObjectLRM.from_file` reads it."""
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, about | {"config": model.config.text, "licence": "CC0-1.0"})


if __name__ == "__main__":
    main()
