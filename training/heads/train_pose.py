# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the pose encoder: `python -m training.heads.train_pose --data FOLDER --out FOLDER --start PARSER --steps N`.

Loss: L1 of the view's numbers, smooth near zero. AdamW, constant rate after a warm-up and a linear fall over the last half of `--steps`; a
moving average of the weights is validated and kept. A checkpoint every two minutes; the same command goes on from it. `log.jsonl` holds
losses and scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.models.heads.faces import MIRROR
from maquette.core.models.heads.pose_reader import PoseReader
from torch import Tensor

from .averaged import Run, command, train
from .dataset import Batch, Records, made
from .validate_parser import view_errors

WEIGHTS = (1.0, 1.0, 1.0, 2.0, 3.0, 3.0)
"""Of x, y, size, roll, yaw, elevation."""
BETA = 0.02
"""Where L1 becomes smooth, units of the view: 0.6 degrees."""
EVERY = 500
"""Steps between validations."""


def new_run(rate: float, steps: int) -> Run:
    """A pose encoder that has learnt nothing yet."""
    torch.manual_seed(0)
    return Run(PoseReader(), rate, steps, warmup=200, fall=1 / 2, average=0.998)


def pose_loss(said: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Of what is said (B, 6); and itself for the log."""
    gap = F.smooth_l1_loss(said, batch.view[:, 1:], reduction="none", beta=BETA)
    loss = (gap * said.new_tensor(WEIGHTS)).mean()
    return loss, {"loss": float(loss.detach())}


def batch_of(records: Records, index: np.ndarray, generator: torch.Generator) -> Batch:
    """Windows around the portraits among these pictures."""
    rows = records.rows(index)
    portrait = rows[1][:, 0] > 0.7
    return made(rows[0][portrait], rows[1][portrait], rows[2][portrait], generator, found=True)


@torch.no_grad()
def validate(model: PoseReader, held: Records, batch: int = 64) -> dict[str, float]:
    """Errors as `validate_parser.view_errors`, over all portraits; windows and their mirror images are both read."""
    model.eval()
    generator, said, true = torch.Generator().manual_seed(7), [], []
    sign = torch.tensor(MIRROR[1:])
    for first in range(0, len(held), batch):
        made_batch = batch_of(held, np.arange(first, min(first + batch, len(held))), generator)
        both = 0.5 * (model(made_batch.image) + model(made_batch.image.flip(3)) * sign)
        said.append(torch.cat([made_batch.view[:, :1], both], 1))
        true.append(made_batch.view)
    return view_errors(torch.cat(said), torch.cat(true))


def train_pose(run: Run, data: Path, out: Path, batch: int) -> None:
    """Until the run's last step; a quarter of the pictures of a batch are no portraits and left out."""

    def drawn(records: Records, rng: np.random.Generator, generator: torch.Generator) -> Batch:
        return batch_of(records, rng.integers(len(records), size=batch), generator)

    train(run, data, out, drawn, pose_loss, validate, seed=2, every=EVERY)


if __name__ == "__main__":
    command(__doc__, new_run, train_pose, batch=40, rate=1e-3, steps=8000)
