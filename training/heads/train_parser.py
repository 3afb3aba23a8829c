# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the face parser and its view head: `python -m training.heads.train_parser --data FOLDER --out FOLDER --steps N`.

Loss: cross-entropy and soft Dice of the parts; cross-entropy of presence; smooth L1 of the view where a face is to be found; squares and
cross-entropy of the generator's code where it is known.
AdamW, constant rate after a warm-up and a linear fall to zero over the last third of `--steps`; a moving average of the weights is what
is validated and kept. A checkpoint every two minutes; the same command goes on from it. `log.jsonl` holds losses and scores.
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
from maquette.core.models.heads.codes import STYLES, groups
from maquette.core.models.heads.parser import HeadParser, ParserConfig, Reading, config_text
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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
FAST_HALF = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
"""Where the processor has no such instructions, bfloat16 takes eight times as long as float32."""
WARMUP, EVERY, AVERAGE = 100, 300, 0.995
"""Steps; steps between validations; the moving average's share of itself."""


class Run:
    """Network, optimiser, average and where they are."""

    def __init__(self, rate: float, steps: int, config: ParserConfig | None = None) -> None:
        torch.manual_seed(0)
        self.model = HeadParser(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE), use_buffers=True)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=rate)
        self.rate, self.steps, self.step, self.cpu_seconds = rate, steps, 0, 0.0

    def advance(self, batch: Batch) -> dict[str, float]:
        """One step; its losses."""
        self.model.train()
        fall = min(1.0, (self.steps - self.step) / (self.steps / 3))
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(1.0, (self.step + 1) / WARMUP) * fall
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_HALF):
            said = self.model(batch.image)
        total, parts = losses(said, batch)
        self.optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return parts

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "cpu_seconds": self.cpu_seconds,
        }  # fmt: skip
        torch.save(state, path.with_suffix(".unfinished"))
        os.replace(path.with_suffix(".unfinished"), path)

    def start(self, path: Path) -> None:
        """Goes on from an exported file: what it has of the network, its average, a fresh optimiser."""
        known = {
            name: value.float() if value.is_floating_point() else value
            for name, value in load_file(path).items()
        }
        own = self.model.state_dict()
        self.model.load_state_dict(own | {name: value for name, value in known.items() if name in own})
        self.average.module.load_state_dict(self.model.state_dict())

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.cpu_seconds = state["step"], state["cpu_seconds"]


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
        name: float(v.detach()) for name, v in parts.items()
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


def train(run: Run, data: Path, out: Path, batch: int, save_every: float = 120) -> None:
    """Until the run's last step."""
    records, held = Records(data, "train"), Records(data, "validation")
    if not len(records):
        raise SystemExit(f"There are no records in {data} yet.")
    checkpoint, saved, recent = out / "checkpoint.pt", time.monotonic(), []
    while run.step < run.steps:
        start = time.process_time()
        rng = np.random.default_rng([1, run.step])
        generator = torch.Generator().manual_seed(run.step)
        recent.append(run.advance(made(*records.rows(rng.integers(len(records), size=batch)), generator)))
        run.cpu_seconds += time.process_time() - start
        if run.step % EVERY == 0 or run.step == run.steps:
            line: dict[str, Any] = {
                "step": run.step,
                "cpu_s": round(run.cpu_seconds),
                "pictures": len(records),
            }
            line |= {f"{key}_loss": round(float(np.mean([r[key] for r in recent])), 4) for key in recent[0]}
            recent.clear()
            line |= validate(run.average.module, held)
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        if run.step == run.steps or time.monotonic() - saved > save_every:
            run.save(checkpoint)
            records.refresh()
            saved = time.monotonic()


def write(model: HeadParser, path: Path, about: dict[str, str]) -> None:
    """Half precision; `HeadParser.from_file` reads it."""
    tensors = {
        name: t.half().contiguous() if t.is_floating_point() else t for name, t in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, about | {"config": config_text(model.config), "licence": "CC0-1.0"})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--rate", type=float, default=2e-3)
    arguments.add_argument("--steps", type=int, default=6000)
    arguments.add_argument(
        "--start", type=Path, help="exported weights to begin with where --out has no checkpoint"
    )
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
