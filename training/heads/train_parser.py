# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the face parser and its view head: `python -m training.heads.train_parser --data FOLDER --out FOLDER --steps N`.

Loss: cross-entropy and soft Dice of the parts; cross-entropy of presence; smooth L1 of the view where a face is to be found; squares and
cross-entropy of the generator's code where it is known.
AdamW, constant rate after a warm-up and a linear fall to zero over the last third of `--steps`; a moving average of the weights is what
is validated and kept. A checkpoint every two minutes; the same command goes on from it. `log.jsonl` holds losses and scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.models.heads.codes import STYLES, groups
from maquette.core.models.heads.parser import HeadParser, ParserConfig, Reading
from torch import Tensor

from .averaged import Run, command, train
from .dataset import Batch, Records, made
from .validate_parser import validate

VIEW_WEIGHTS = (3.0, 3.0, 2.0, 2.0, 3.0, 3.0)
"""Of x, y, size, roll, yaw, elevation."""
PART_WEIGHTS = (0.6, 0.8, 0.7, 2.0, 2.0, 1.2, 1.4, 1.4, 1.0)
"""Of the parts in the cross-entropy: small ones count more."""
CODE_WEIGHTS = {
    "shape": 0.4,
    "race": 0.15,
    "expression": 0.2,
    "skin": 0.15,
    "hair_colour": 0.15,
    "light": 0.15,
    "cloth": 0.1,
}
"""Of groups of the code; the others' is 0.05."""
EVERY = 300
"""Steps between validations."""


def new_run(rate: float, steps: int, config: ParserConfig | None = None) -> Run:
    """A parser that has learnt nothing yet."""
    torch.manual_seed(0)
    return Run(HeadParser(config), rate, steps)


def losses(said: Reading, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Total and what it is made of."""
    weight = said.parts.new_tensor(PART_WEIGHTS)
    entropy = F.cross_entropy(said.parts, batch.parts, weight)
    chance = said.parts.softmax(1)
    true = F.one_hot(batch.parts, chance.shape[1]).permute(0, 3, 1, 2).to(chance)
    both, all_of = (chance * true).sum((0, 2, 3)), (chance + true).sum((0, 2, 3))
    dice = 1 - ((2 * both + 1) / (all_of + 1)).mean()
    there = batch.view[:, 0]
    presence = F.binary_cross_entropy_with_logits(said.view[:, 0], there)
    gap = F.smooth_l1_loss(said.view[:, 1:], batch.view[:, 1:], reduction="none", beta=0.05)
    view = (gap * there[:, None] * said.view.new_tensor(VIEW_WEIGHTS)).sum() / (6 * there.sum()).clamp(min=1)
    code = code_loss(said.code, batch.code)
    parts = {"entropy": entropy, "dice": dice, "presence": presence, "view": view, "code": code}
    return entropy + dice + 0.3 * presence + view + code, {
        f"{name}_loss": float(v.detach()) for name, v in parts.items()
    }


def code_loss(said: Tensor, true: Tensor) -> Tensor:
    """Squares of the normal numbers, each group by its weight, and cross-entropy of the styles; heads without a code are left out."""
    known = ~true[:, 0].isnan()
    if not known.any():
        return said.sum() * 0
    said, true = said[known], true[known]
    total = said.new_zeros(())
    for name, place in groups().items():
        if name in STYLES:
            total = total + 0.3 * F.cross_entropy(said[:, place], true[:, place].argmax(1))
        else:
            total = total + CODE_WEIGHTS.get(name, 0.05) * (said[:, place] - true[:, place]).square().mean()
    return total


def train_parser(run: Run, data: Path, out: Path, batch: int) -> None:
    """Until the run's last step."""

    def batch_of(records: Records, rng: np.random.Generator, generator: torch.Generator) -> Batch:
        return made(*records.rows(rng.integers(len(records), size=batch)), generator)

    train(run, data, out, batch_of, losses, validate, seed=1, every=EVERY)


if __name__ == "__main__":
    command(__doc__, new_run, train_parser, batch=16, rate=2e-3, steps=6000)
