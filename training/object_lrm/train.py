# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the bundled one-picture model: `python -m training.object_lrm.train --data FOLDER --out FOLDER`.

Loss: L1 of both layers' depths and of their slopes on the object's pixels, where a common shift of the whole object counts
little (`SHIFT_WEIGHT`: no picture tells it well, and it does not change the shape); L1 of the colour behind; L2 of the camera's
stance. Muon (Jordan et al. 2024) on the transformer's matrices, AdamW on the rest; constant rate after a warm-up and a
moving average of the weights, so that a run can always go on; `--cooldown` takes the rate down to zero over the last steps
into a checkpoint of its own, which is the one to export.

A checkpoint every five minutes; the same command goes on from it. `log.jsonl` holds losses and validation scores.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.models.lrm.object_lrm import ObjectLRM, ObjectLRMConfig
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .dataset import Batch, Records, augmented
from .validate import validate

SHIFT_WEIGHT, SLOPE_WEIGHT, COLOUR_WEIGHT, STANCE_WEIGHT = 0.2, 1.0, 0.15, 0.3
ATTENTION = {"cpu": SDPBackend.MATH, "cuda": SDPBackend.FLASH_ATTENTION}
"""With few tokens plain products are a sixth faster a step than what torch chooses on a CPU."""
EMA = 0.998
VALIDATE_EVERY = 1000
"""Steps."""


class Run:
    """Model, moving average, optimisers and counters: all that a checkpoint holds."""

    def __init__(
        self, rate: float, warmup: int, device: torch.device, config: ObjectLRMConfig | None = None
    ) -> None:
        torch.manual_seed(0)
        self.model = ObjectLRM(config).to(device, memory_format=torch.channels_last)
        self.average = ObjectLRM(config).to(device).requires_grad_(False).eval()
        self.average.load_state_dict(self.model.state_dict())
        matrices, others = [], []
        for name, p in self.model.named_parameters():
            inner = p.ndim == 2 and "blocks." in name
            (matrices if inner else others).append(p)
        self.optimisers = [
            torch.optim.Muon(matrices, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.02),
        ]
        self.rate, self.warmup, self.device = rate, warmup, device
        self.step, self.cpu_seconds = 0, 0.0

    def advance(self, batch: Batch, share_of_rate: float = 1.0) -> dict[str, float]:
        """One step; returns the losses."""
        rate = self.rate * min(1.0, (self.step + 1) / self.warmup) * share_of_rate
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        loss, parts = losses(self.model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        with torch.no_grad():
            keep = min(EMA, self.step / (self.step + 10))
            for slow, fast in zip(self.average.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
            for slow, fast in zip(self.average.buffers(), self.model.buffers(), strict=True):
                slow.copy_(fast)
        return parts

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step,
            "cpu_seconds": self.cpu_seconds,
        }
        unfinished = path.with_suffix(".unfinished")
        torch.save(state, unfinished)
        os.replace(unfinished, path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.cpu_seconds = state["step"], state["cpu_seconds"]


def losses(model: ObjectLRM, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and its parts for the log."""
    device = batch.image.device.type
    with torch.autocast(device, torch.bfloat16), sdpa_kernel(ATTENTION[device]):
        said = model(batch.image)
    hit = batch.hit[:, None].float()
    count = hit.sum((1, 2, 3)).clamp(min=1)
    gap = (said.depth - batch.depth) * hit
    shift = gap.sum((1, 2, 3)) / (2 * count)
    shape = ((gap - shift[:, None, None, None]).abs() * hit).sum((1, 2, 3)) / (2 * count)
    slope = sum((_slopes(gap, hit, step) for step in (1, 4)), torch.zeros(())) / 2
    colour = ((said.behind - batch.behind).abs() * hit).sum((1, 2, 3)) / (3 * count)
    stood = F.mse_loss(said.stance, batch.stance)
    with torch.no_grad():
        front = (gap[:, 0].abs() * hit[:, 0]).sum((1, 2)) / count
    parts = {
        "shape": shape.mean(), "shift": shift.abs().mean(), "slope": slope, "colour": colour.mean(),
        "stance": stood, "front": front.mean(),
    }  # fmt: skip
    total = shape.mean() + SHIFT_WEIGHT * parts["shift"] + SLOPE_WEIGHT * slope
    total = total + COLOUR_WEIGHT * colour.mean() + STANCE_WEIGHT * stood
    return total, {name: float(value.detach()) for name, value in parts.items()}


def _slopes(gap: Tensor, hit: Tensor, step: int) -> Tensor:
    """Mean error of differences between pixels `step` apart, both on the object."""
    loss = torch.zeros((), device=gap.device)
    for axis in (2, 3):
        length = gap.shape[axis] - step
        both = hit.narrow(axis, step, length) * hit.narrow(axis, 0, length)
        change = (gap.narrow(axis, step, length) - gap.narrow(axis, 0, length)).abs().clamp(max=0.5)
        loss = loss + (change * both).sum() / (2 * both.sum()).clamp(min=1)
    return loss / 2


def on(batch: Batch, device: torch.device) -> Batch:
    return Batch(**{name: value.to(device) for name, value in vars(batch).items()})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--rate", type=float, default=3e-3)
    arguments.add_argument("--warmup", type=int, default=300)
    arguments.add_argument("--steps", type=int, default=1_000_000, help="stop at this step")
    arguments.add_argument(
        "--cooldown", type=int, default=0, help="end with so many steps of falling rate: cooled.pt"
    )
    arguments.add_argument("--save-every", type=float, default=300, help="seconds")
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options.rate, options.warmup, torch.device(options.device))
    checkpoint = options.out / "checkpoint.pt"
    if checkpoint.exists():
        run.load(checkpoint)
    train(run, options, checkpoint)


def train(run: Run, options: argparse.Namespace, checkpoint: Path) -> None:
    """Until `--steps`, or through the cool-down, which starts at the checkpoint and never overwrites it."""
    records, held = Records(options.data, "packs", "procedural"), Records(options.data, "validation")
    if not len(records):
        raise SystemExit(f"There are no records in {options.data} yet.")
    last = run.step + options.cooldown if options.cooldown else options.steps
    target = checkpoint.with_name("cooled.pt") if options.cooldown else checkpoint
    saved, recent = time.monotonic(), []
    while run.step < last:
        start = time.process_time()
        rng = np.random.default_rng([1, run.step])
        generator = torch.Generator().manual_seed(run.step)
        batch = on(augmented(records.batch(options.batch, rng), generator), run.device)
        recent.append(
            run.advance(batch, min(1.0, (last - run.step) / options.cooldown) if options.cooldown else 1.0)
        )
        run.cpu_seconds += time.process_time() - start
        line = {"step": run.step, "cpu_s": round(run.cpu_seconds), "pictures": len(records)}
        if run.step % 200 == 0:
            note(
                options.out,
                line | {key: round(float(np.mean([r[key] for r in recent])), 5) for key in recent[0]},
            )
            recent.clear()
        if run.step == last or time.monotonic() - saved > options.save_every:
            run.save(target)
            records.refresh()
            saved = time.monotonic()
        if run.step == last or run.step % VALIDATE_EVERY == 0:
            note(options.out, line | {"validation": validate(run.average, held)})


def note(out: Path, line: dict[str, object]) -> None:
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
