# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the pose encoder: `python -m training.heads.train_pose --data FOLDER --out FOLDER --start PARSER --steps N`.

Loss: L1 of the view's numbers, smooth near zero. AdamW, constant rate after a warm-up and a linear fall over the last half of `--steps`; a
moving average of the weights is validated and kept. A checkpoint every two minutes; the same command goes on from it. `log.jsonl` holds
losses and scores.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.models.heads.faces import MIRROR
from maquette.core.models.heads.pose_reader import PoseReader
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .dataset import Batch, Records, made
from .train_parser import FAST_HALF
from .validate_parser import view_errors

WEIGHTS = (1.0, 1.0, 1.0, 2.0, 3.0, 3.0)
"""Of x, y, size, roll, yaw, elevation."""
BETA = 0.02
"""Where L1 becomes smooth, units of the view: 0.6 degrees."""
WARMUP, EVERY, AVERAGE = 200, 500, 0.998


class Run:
    """Network, optimiser, average and where they are."""

    def __init__(self, rate: float, steps: int) -> None:
        torch.manual_seed(0)
        self.model = PoseReader().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE), use_buffers=True)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=rate)
        self.rate, self.steps, self.step, self.cpu_seconds = rate, steps, 0, 0.0

    def advance(self, batch: Batch) -> float:
        """One step; its loss."""
        self.model.train()
        fall = min(1.0, (self.steps - self.step) / (self.steps / 2))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(1.0, (self.step + 1) / WARMUP) * fall
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_HALF):
            said = self.model(batch.image)
        loss = pose_loss(said, batch.view[:, 1:])
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return float(loss.detach())

    def start(self, path: Path) -> None:
        """The parser's encoder."""
        own = self.model.state_dict()
        known = {
            name: value.float() if value.is_floating_point() else value
            for name, value in load_file(path).items()
            if name in own and value.shape == own[name].shape
        }
        self.model.load_state_dict(own | known)
        self.average.module.load_state_dict(self.model.state_dict())

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "cpu_seconds": self.cpu_seconds,
        }  # fmt: skip
        torch.save(state, path.with_suffix(".unfinished"))
        os.replace(path.with_suffix(".unfinished"), path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.cpu_seconds = state["step"], state["cpu_seconds"]


def pose_loss(said: Tensor, true: Tensor) -> Tensor:
    """(B, 6) each."""
    gap = F.smooth_l1_loss(said, true, reduction="none", beta=BETA)
    return (gap * said.new_tensor(WEIGHTS)).mean()


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


def train(run: Run, data: Path, out: Path, batch: int, save_every: float = 120) -> None:
    """Until the run's last step."""
    records, held = Records(data, "train"), Records(data, "validation")
    checkpoint, saved, recent = out / "checkpoint.pt", time.monotonic(), []
    while run.step < run.steps:
        start = time.process_time()
        rng = np.random.default_rng([2, run.step])
        generator = torch.Generator().manual_seed(run.step)
        recent.append(run.advance(batch_of(records, rng.integers(len(records), size=batch), generator)))
        run.cpu_seconds += time.process_time() - start
        if run.step % EVERY == 0 or run.step == run.steps:
            line: dict[str, Any] = {
                "step": run.step,
                "cpu_s": round(run.cpu_seconds),
                "pictures": len(records),
            }
            line |= {"loss": round(float(np.mean(recent)), 4), **validate(run.average.module, held)}
            recent.clear()
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        if run.step == run.steps or time.monotonic() - saved > save_every:
            run.save(checkpoint)
            records.refresh()
            saved = time.monotonic()


def write(model: PoseReader, path: Path, about: dict[str, str]) -> None:
    """Half precision; `PoseReader.from_file` reads it."""
    tensors = {
        name: t.half().contiguous() if t.is_floating_point() else t for name, t in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, about | {"config": model.config.text, "licence": "CC0-1.0"})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument(
        "--batch", type=int, default=40, help="pictures, a quarter of which are no portraits and left out"
    )
    arguments.add_argument("--rate", type=float, default=1e-3)
    arguments.add_argument("--steps", type=int, default=10000)
    arguments.add_argument("--start", type=Path, help="the parser's weights, where --out has no checkpoint")
    arguments.add_argument("--export", type=Path, help="only write the average's weights to this file")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options.rate, options.steps)
    if (options.out / "checkpoint.pt").exists():
        run.load(options.out / "checkpoint.pt")
    elif options.start is not None:
        run.start(options.start)
    if options.export:
        write(run.average.module, options.export, {"step": str(run.step)})
    else:
        train(run, options.data, options.out, options.batch)


if __name__ == "__main__":
    main()
