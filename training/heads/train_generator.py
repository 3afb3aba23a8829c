# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the head generator in space: `python -m training.heads.train_generator --packs FOLDER --out FOLDER --steps N`.

A step asks the planes of a few heads at points whose density and colour are known (`surface`), which costs a tenth of
rendering. A checkpoint every two minutes; the same command goes on from it. `--side 128` grows the planes of a checkpoint of
64; `--start` begins with exported weights. `train_pictures` then teaches the pictures. `log.jsonl` holds the losses.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from maquette.core.models.eg3d.configuration import AXES, Eg3dConfig
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.eg3d.planes import BentSampler, with_margin
from maquette.core.models.heads.generator import load_generator
from safetensors import safe_open
from torch import Tensor

from .coded import CodedHeads
from .generator_config import generator_config, grown, new_generator
from .makers import Makers
from .pool import SHIFT, Pool, make_heads
from .surface import LEAST, LEVEL, MOST

SOFT = 20.0
"""Of raw density: differences of this size next to the surface count in full, far from it by their logarithm."""
WARMUP, AVERAGE = 50, 0.998
BENT = 4.0
"""Weight of the shifts."""
FACTORS = {".mapping.": 1.0, "bending.": 1.0, ".affine.": 6.0, ".detail": 10.0, "": 1.0}
"""On the rates of what has these names, found in runs of two minutes."""


class Run:
    """Network, its average, optimiser, and where they are."""

    def __init__(self, config: Eg3dConfig, rate: float) -> None:
        self.model = new_generator(config)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.rate, self.step, self.cpu_seconds, self.heads = rate, 0, 0.0, 0
        self.optimiser = self._optimiser()

    def _optimiser(self) -> torch.optim.Adam:
        groups: dict[str, dict[str, Any]] = {
            name: {"params": [], "factor": factor} for name, factor in FACTORS.items()
        }
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                kind = next((kind for kind in FACTORS if kind in name), "")
                groups[kind]["params"].append(parameter)
        return torch.optim.Adam(list(groups.values()), lr=self.rate, betas=(0.9, 0.99), eps=1e-8)

    def apply(self, loss: Tensor, fall: float) -> None:
        """One step down a loss; `fall`: factor of the rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["factor"] * self.rate * fall * min(1.0, (self.step + 1) / WARMUP)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], 5.0)
        self.optimiser.step()
        self.step += 1
        share = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                self.average[name].lerp_(value, 1 - share)

    def save(self, path: Path) -> None:
        state = {
            "config": self.model.config.as_json(), "model": self.model.state_dict(), "average": self.average,
            "optimiser": self.optimiser.state_dict(), "step": self.step, "cpu_seconds": self.cpu_seconds, "heads": self.heads,
        }  # fmt: skip
        torch.save(state, path.with_suffix(".unfinished"))
        os.replace(path.with_suffix(".unfinished"), path)

    def load(self, path: Path) -> None:
        """Goes on; into larger planes with a fresh optimiser."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        same = state["model"].keys() == self.model.state_dict().keys()
        self.model.load_state_dict(grown(state["model"], self.model))
        self.average = grown(state["average"], self.model)
        self.model.hold_channels_last()
        self.optimiser = self._optimiser()
        if same:
            self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.cpu_seconds, self.heads = state["step"], state["cpu_seconds"], state["heads"]

    def start(self, path: Path) -> None:
        """Goes on from an exported file, as a clone without checkpoints does: its weights, a fresh optimiser."""
        state = load_generator(path).network.state_dict()
        self.model.load_state_dict(grown(state, self.model))
        self.average = grown(state, self.model)
        self.model.hold_channels_last()
        self.optimiser = self._optimiser()
        with safe_open(path, "pt") as file:
            about = file.metadata()
        self.step, self.heads = int(about["step"]), int(about["heads"])


def planes_of(model: Eg3d, codes: Tensor) -> Tensor:
    """(B, 3, C, S, S) of codes (B, WIDTH)."""
    label = torch.zeros(len(codes), model.config.label_width)
    return model.planes(model.mapping(codes, label), noise="none")


def said_at(model: Eg3d, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Raw density (B, P), colour (B, P, 3) and shift (B, P, 3; units of `SHIFT`) of planes (B, 3, C, S, S) at points (B, P, 3)."""
    axes, side = AXES[model.config.plane_axes], model.config.rendering.box_warp
    density, colour, shift = [], [], []
    for item, at in zip(planes, points, strict=True):
        sampler = BentSampler(item, axes, side, model.config.bend, model.config.fovea)
        moved = sampler.shift(at)
        raw, rgb = model.decoder(sampler.at(at + moved))
        density.append(raw)
        colour.append(with_margin(rgb[:, :3]))
        shift.append(moved / SHIFT)
    return torch.stack(density), torch.stack(colour), torch.stack(shift)


def losses(density: Tensor, colour: Tensor, shift: Tensor, said: Tensor) -> dict[str, Tensor]:
    """What is said (B, P, 8) against the network's; beyond either limit of the density all is well."""
    wanted, weight = said[..., 0], said[..., 4]
    density = torch.where(wanted <= LEAST + 0.5, density.clamp(min=LEAST), density)
    density = torch.where(wanted >= MOST - 0.5, density.clamp(max=MOST), density)
    squash = lambda raw: torch.asinh((raw - LEVEL) / SOFT)  # noqa: E731
    shape = (squash(density) - squash(wanted)).abs().mean()
    paint = ((colour - said[..., 1:4]).abs().mean(-1) * weight).sum() / weight.sum()
    bend = ((shift - said[..., 5:]).abs().mean(-1) * weight).sum() / weight.sum()
    return {"shape": shape, "paint": paint, "bend": bend}


def summed(parts: dict[str, Tensor]) -> Tensor:
    """The loss in space."""
    return parts["shape"] + 4.0 * parts["paint"] + BENT * parts["bend"]


class Log:
    """Writes `log.jsonl` and the checkpoint of a run as its steps go by."""

    def __init__(self, run: Run, out: Path, phase: str, every: int, options: argparse.Namespace) -> None:
        self.run, self.out, self.phase, self.every, self.options = run, out, phase, every, options
        self.saved, self.first = time.monotonic(), run.step
        self.recent: list[dict[str, float]] = []

    def step(self, parts: dict[str, Tensor], start: float, made: float) -> None:
        """After a step: its losses; processor seconds when it began and when its heads were made."""
        run, end = self.run, time.process_time()
        run.cpu_seconds += end - start
        spent = {"made_s": made - start, "step_s": end - made}
        self.recent.append({name: float(v.detach()) for name, v in parts.items()} | spent)
        last = run.step == self.options.steps
        if run.step % self.every == 0 or last:
            line: dict[str, Any] = {
                "phase": self.phase,
                "side": run.model.config.plane_side,
                "step": run.step,
            }
            line |= {"cpu_s": round(run.cpu_seconds), "heads": run.heads}
            line |= {key: round(float(np.mean([r[key] for r in self.recent])), 4) for key in self.recent[0]}
            self.recent.clear()
            with (self.out / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        due = time.monotonic() - self.saved > self.options.save_every
        if last or due or run.step == self.first + 20:
            run.save(self.out / "checkpoint.pt")
            self.saved = time.monotonic()


def train(run: Run, source: CodedHeads, out: Path, options: argparse.Namespace) -> None:
    """Until the last step."""
    make = partial(make_heads, looks=options.looks)
    makers = Makers(options.packs, make, run.heads, options.makers) if options.makers else None
    pool = Pool(source, run.heads, options.pool, options.looks, makers)
    log = Log(run, out, "space", 25, options)
    while run.step < options.steps:
        start = time.process_time()
        rng = np.random.default_rng([2, run.step])
        pool.grow(8 if len(pool.heads) < 8 * options.looks else int(run.step % options.fresh == 0))
        codes, points, said = pool.batch(options.batch, options.points, rng)
        run.heads = pool.next
        made = time.process_time()
        planes = planes_of(run.model, codes)
        parts = losses(*said_at(run.model, planes, points), said)
        run.apply(summed(parts), falling(run, options))
        log.step(parts, start, made)


def falling(run: Run, options: argparse.Namespace) -> float:
    """Factor of the rate: 1, then a straight line to zero over the last `--fall` steps."""
    return min(1.0, (options.steps - run.step) / max(options.fall, 1))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--packs", type=Path, required=True, help="folder training_packs")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--side", type=int, default=64, choices=(64, 128), help="texels of a plane's side")
    arguments.add_argument("--steps", type=int, default=4000)
    arguments.add_argument("--fall", type=int, default=500, help="steps over which the rate falls to zero")
    arguments.add_argument("--rate", type=float, default=8e-3)
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--points", type=int, default=3072)
    arguments.add_argument("--pool", type=int, default=1600)
    arguments.add_argument("--looks", type=int, default=4, help="colours that each shape comes in")
    arguments.add_argument(
        "--makers", type=int, default=0, help="processes that make heads; 0: one every --fresh steps, here"
    )
    arguments.add_argument("--fresh", type=int, default=8, help="a new head every so many steps")
    arguments.add_argument("--save-every", type=float, default=120)
    arguments.add_argument(
        "--start", type=Path, help="exported weights to begin with where --out has no checkpoint"
    )
    options = arguments.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(generator_config(options.side), options.rate)
    if (options.out / "checkpoint.pt").exists():
        run.load(options.out / "checkpoint.pt")
    elif options.start is not None:
        run.start(options.start)
    train(run, CodedHeads(options.packs), options.out, options)


if __name__ == "__main__":
    main()
