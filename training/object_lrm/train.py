# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the bundled one-picture model: `python -m training.object_lrm.train --data FOLDER --out FOLDER`.

Loss: cross-entropy of "inside" at points near the surface and in free space, softened over `SOFT`; L1 of colours at
surface points; L2 of the camera's stance. No volume rendering: it costs ten times as much a step and, with the shape
known, teaches less. Muon (Jordan et al. 2024) on the transformers' matrices, AdamW on the rest; constant rate after a
warm-up and a moving average of the weights, so that a run can always go on; `--cooldown` takes the rate down to zero
over the last steps into a checkpoint of its own, which is the one to export.

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
from maquette.core.fields.triplane import with_added
from maquette.core.models.lrm.object_lrm import ObjectLRM, ObjectLRMConfig
from torch import Tensor

from .dataset import Batch, Records, augmented
from .validate import validate

SOFT = 0.03
"""Distance over which "inside" goes from sure to unsure, half sides of the cube."""
COLOUR_WEIGHT, STANCE_WEIGHT = 0.6, 0.3
EMA = 0.998
VALIDATE_EVERY = 500
"""Steps."""


class Run:
    """Model, moving average, optimisers and counters: all that a checkpoint holds."""

    def __init__(
        self, rate: float, warmup: int, device: torch.device, config: ObjectLRMConfig | None = None
    ) -> None:
        torch.manual_seed(0)
        self.model = ObjectLRM(config).to(device)
        self.average = ObjectLRM(config).to(device).requires_grad_(False).eval()
        self.average.load_state_dict(self.model.state_dict())
        matrices, others = [], []
        for name, p in self.model.named_parameters():
            inner = p.ndim == 2 and ("blocks." in name or name.startswith("lift"))
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
    with torch.autocast(batch.image.device.type, torch.bfloat16):
        planes, stance = model(batch.image)
        raw = queried(model, planes, torch.cat([batch.points, batch.surface], 1)).float()
    count = batch.points.shape[1]
    inside = torch.sigmoid(-batch.distance / SOFT)
    within = (batch.points.abs() <= 1).all(-1)
    shape = F.binary_cross_entropy_with_logits(raw[:, :count, 0], inside, reduction="none")[within].mean()
    shown = (batch.surface.abs() <= 1).all(-1)
    colour = (torch.sigmoid(raw[:, count:, 1:]) - batch.colour).abs()[shown].mean()
    stood = F.mse_loss(stance, batch.stance)
    with torch.no_grad():
        hit = ((raw[:, :count, 0] > 0) == (inside > 0.5))[within].float().mean()
    parts = {"shape": shape.item(), "colour": colour.item(), "stance": stood.item(), "right": hit.item()}
    return shape + COLOUR_WEIGHT * colour + STANCE_WEIGHT * stood, parts


def queried(model: ObjectLRM, planes: Tensor, points: Tensor) -> Tensor:
    """`TriplaneField.raw` for a batch: planes (B, 3, C, P, P), points (B, N, 3) -> (B, N, 4)."""
    grid = torch.stack([points[..., list(pair)] for pair in model.config.rule.axes], 1)  # (B, 3, N, 2)
    sampled = F.grid_sample(
        planes.flatten(0, 1), grid.flatten(0, 1)[:, None], align_corners=False
    )  # (B*3, C, 1, N)
    features = (
        sampled[:, :, 0].unflatten(0, (-1, 3)).flatten(1, 2).mT
    )  # (B, N, 3 C), planes one after the other
    raw = model.decoder(features)
    if not model.config.rule.added:
        return raw
    return with_added(raw, sampled[:, -1, 0].unflatten(0, (-1, 3)).sum(1))


def on(batch: Batch, device: torch.device) -> Batch:
    return Batch(**{name: value.to(device) for name, value in vars(batch).items()})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--rate", type=float, default=1.5e-3)
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
        line = {"step": run.step, "cpu_s": round(run.cpu_seconds), "objects": len(records)}
        if run.step % 50 == 0:
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
