# SPDX-License-Identifier: GPL-3.0-or-later
"""What the trainers of parser and pose encoder share: AdamW with a warm-up and a linear fall, a moving average of the weights, checkpoints."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .dataset import Batch, Records

FAST_HALF = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""Where the processor has no such instructions, bfloat16 takes eight times as long as float32."""
Batched = Callable[[Records, np.random.Generator, torch.Generator], Batch]
"""Records and what is random in a step -> what it learns from."""
Loss = Callable[[Any, Batch], tuple[Tensor, dict[str, float]]]
"""What the model says of a batch -> loss, and what of it goes into the log."""


class Run:
    """Network, optimiser, average and where they are."""

    def __init__(
        self,
        model: nn.Module,
        rate: float,
        steps: int,
        warmup: int = 100,
        fall: float = 1 / 3,
        average: float = 0.995,
    ) -> None:
        """
        Args:
            model: to train.
            rate: of AdamW.
            steps: of the whole run.
            warmup: steps in which the rate rises.
            fall: the last share of the steps, in which it falls to zero.
            average: the moving average's share of itself, a step.
        """
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(average), use_buffers=True)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=rate)
        self.rate, self.steps, self.warmup, self.fall = rate, steps, warmup, fall
        self.step, self.cpu_seconds = 0, 0.0

    def advance(self, batch: Batch, loss_of: Loss) -> dict[str, float]:
        """One step; what `loss_of` says besides the loss."""
        self.model.train()
        falling = min(1.0, (self.steps - self.step) / (self.steps * self.fall))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(1.0, (self.step + 1) / self.warmup) * falling
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_HALF):
            said = self.model(batch.image)
        loss, told = loss_of(said, batch)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return told

    def save(self, path: Path) -> None:
        """Everything; whole or not at all."""
        state = {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "cpu_seconds": self.cpu_seconds,
        }  # fmt: skip
        torch.save(state, path.with_suffix(".unfinished"))
        os.replace(path.with_suffix(".unfinished"), path)

    def load(self, path: Path) -> None:
        """Inverse of `save`."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.cpu_seconds = state["step"], state["cpu_seconds"]

    def start(self, path: Path) -> None:
        """Begins with what an exported file has of the network; average alike, a fresh optimiser."""
        own = self.model.state_dict()
        known = {
            name: value.float() if value.is_floating_point() else value
            for name, value in load_file(path).items()
            if name in own and value.shape == own[name].shape
        }
        self.model.load_state_dict(own | known)
        self.average.module.load_state_dict(self.model.state_dict())


def train(
    run: Run,
    data: Path,
    out: Path,
    batch_of: Batched,
    loss_of: Loss,
    validate: Callable[[Any, Records], dict[str, Any]],
    seed: int,
    every: int,
    save_every: float = 120,
) -> None:
    """Until the run's last step: a line of `log.jsonl` every so many steps, a checkpoint every so many seconds.

    Args:
        run: goes on from its step.
        data: folder of records; new shards are taken in at every checkpoint.
        out: folder of log and checkpoint.
        batch_of: see there.
        loss_of: see there.
        validate: scores of the average on held-out records.
        seed: of what is random; a step draws the same after a restart.
        every: steps between validations.
        save_every: seconds between checkpoints.
    """
    records, held = Records(data, "train"), Records(data, "validation")
    if not len(records):
        raise SystemExit(f"There are no records in {data} yet.")
    saved, recent = time.monotonic(), []
    while run.step < run.steps:
        start = time.process_time()
        random = np.random.default_rng([seed, run.step]), torch.Generator().manual_seed(run.step)
        recent.append(run.advance(batch_of(records, *random), loss_of))
        run.cpu_seconds += time.process_time() - start
        if run.step % every == 0 or run.step == run.steps:
            line = {"step": run.step, "cpu_s": round(run.cpu_seconds), "pictures": len(records)}
            mean = {key: round(float(np.mean([r[key] for r in recent])), 4) for key in recent[0]}
            recent.clear()
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line | mean | validate(run.average.module, held)) + "\n")
        if run.step == run.steps or time.monotonic() - saved > save_every:
            run.save(out / "checkpoint.pt")
            records.refresh()
            saved = time.monotonic()


def write(model: Any, path: Path, about: dict[str, str]) -> None:
    """Weights of an `OwnNetwork` in half precision; its `from_file` reads them."""
    tensors = {
        name: t.half().contiguous() if t.is_floating_point() else t for name, t in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, about | {"config": model.config.text, "licence": "CC0-1.0"})


def command(
    doc: str | None,
    new_run: Callable[[float, int], Run],
    train_on: Callable[[Run, Path, Path, int], None],
    batch: int,
    rate: float,
    steps: int,
) -> None:
    """The command line that both trainers have.

    Args:
        doc: its help.
        new_run: of a rate and a number of steps.
        train_on: a run, records, folder for log and checkpoint, pictures a step.
        batch: the default, as are `rate` and `steps`.
    """
    arguments = argparse.ArgumentParser(description=doc)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--batch", type=int, default=batch)
    arguments.add_argument("--rate", type=float, default=rate)
    arguments.add_argument("--steps", type=int, default=steps)
    arguments.add_argument(
        "--start", type=Path, help="exported weights to begin with where --out has no checkpoint"
    )
    arguments.add_argument("--export", type=Path, help="only write the average's weights to this file")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    run = new_run(options.rate, options.steps)
    if (options.out / "checkpoint.pt").exists():
        run.load(options.out / "checkpoint.pt")
    elif options.start is not None:
        run.start(options.start)
    if options.export:
        write(run.average.module, options.export, {"step": str(run.step)})
    else:
        train_on(run, options.data, options.out, options.batch)
