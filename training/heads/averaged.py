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

from .dataset import Records

FAST_HALF = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""Where the processor has no such instructions, bfloat16 takes eight times as long as float32."""


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

    def advance(
        self, image: Tensor, loss_of: Callable[[Any], tuple[Tensor, dict[str, float]]]
    ) -> dict[str, float]:
        """One step on pictures; what `loss_of` says besides the loss of what the model says."""
        self.model.train()
        falling = min(1.0, (self.steps - self.step) / (self.steps * self.fall))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(1.0, (self.step + 1) / self.warmup) * falling
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_HALF):
            said = self.model(image)
        loss, told = loss_of(said)
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
    records: Records,
    out: Path,
    advance: Callable[[np.random.Generator, torch.Generator], dict[str, float]],
    validate: Callable[[nn.Module], dict[str, Any]],
    seed: int,
    every: int,
    save_every: float = 120,
) -> None:
    """Until the run's last step: a line of `log.jsonl` every so many steps, a checkpoint every so many seconds.

    Args:
        run: goes on from its step.
        records: new shards of it are taken in at every checkpoint.
        out: folder of log and checkpoint.
        advance: one step, given what is random in it; its losses by name.
        validate: scores of the average.
        seed: of what is random; a step draws the same after a restart.
        every: steps between validations.
        save_every: seconds between checkpoints.
    """
    if not len(records):
        raise SystemExit(f"There are no records in {records.folder} yet.")
    saved, recent = time.monotonic(), []
    while run.step < run.steps:
        start = time.process_time()
        recent.append(
            advance(np.random.default_rng([seed, run.step]), torch.Generator().manual_seed(run.step))
        )
        run.cpu_seconds += time.process_time() - start
        if run.step % every == 0 or run.step == run.steps:
            line = {"step": run.step, "cpu_s": round(run.cpu_seconds), "pictures": len(records)}
            mean = {key: round(float(np.mean([r[key] for r in recent])), 4) for key in recent[0]}
            recent.clear()
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line | mean | validate(run.average.module)) + "\n")
        if run.step == run.steps or time.monotonic() - saved > save_every:
            run.save(out / "checkpoint.pt")
            records.refresh()
            saved = time.monotonic()


def write(model: nn.Module, path: Path, config: str, about: dict[str, str]) -> None:
    """Weights in half precision, the configuration in the metadata (`own_weights.read_own` reads both)."""
    tensors = {
        name: t.half().contiguous() if t.is_floating_point() else t for name, t in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, about | {"config": config, "licence": "CC0-1.0"})


def options_of(doc: str | None, batch: int, rate: float, steps: int) -> argparse.Namespace:
    """The command line that both trainers have, with their defaults."""
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
    return arguments.parse_args()


def went_on(run: Run, options: argparse.Namespace) -> Run:
    """The run, from its checkpoint if there is one, else from the weights that it is to start with."""
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if (options.out / "checkpoint.pt").exists():
        run.load(options.out / "checkpoint.pt")
    elif options.start is not None:
        run.start(options.start)
    return run
