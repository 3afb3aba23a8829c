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
from torch import Tensor, nn

from .averaged import Run, options_of, train, went_on, write
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


def pose_loss(said: Tensor, true: Tensor) -> tuple[Tensor, dict[str, float]]:
    """(B, 6) each; the loss, and itself for the log."""
    gap = F.smooth_l1_loss(said, true, reduction="none", beta=BETA)
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
    """Until the run's last step."""
    records, held = Records(data, "train"), Records(data, "validation")

    def advance(rng: np.random.Generator, generator: torch.Generator) -> dict[str, float]:
        one = batch_of(records, rng.integers(len(records), size=batch), generator)
        return run.advance(one.image, lambda said: pose_loss(said, one.view[:, 1:]))

    def scores(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, PoseReader)
        return validate(model, held)

    train(run, records, out, advance, scores, seed=2, every=EVERY)


def main() -> None:
    # A quarter of the pictures are no portraits and left out.
    options = options_of(__doc__, 40, 1e-3, 8000)
    run = went_on(new_run(options.rate, options.steps), options)
    if options.export:
        model = run.average.module
        write(model, options.export, model.config.text, {"step": str(run.step)})
    else:
        train_pose(run, options.data, options.out, options.batch)


if __name__ == "__main__":
    main()
