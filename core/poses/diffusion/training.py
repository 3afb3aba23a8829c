# SPDX-License-Identifier: GPL-3.0-or-later
"""Field and pose encoder trained together: probe, assign, render, classify (spec A.6, A.9, A.10)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cameras import CandidateSphere, Poses, SingleCamera
from .encoder import PoseEncoder
from .noise import add_noise, draw_steps, loss_weight
from .pictures import Pictures, local_rays
from .settings import DiffusionSettings
from .survey import Survey, survey
from .volume import Cube, Frustum, Volume

RADIUS = 4.0
"""Of the sphere of candidates (spec A.6); sets the scale of an orbit's world."""
GUIDED = (0.25, 0.45)
"""Shares of the steps until which the survey's cameras are the encoder's, and from which it is on its own."""
EXPLORE = 0.2
"""Probability at the start that the second or third best candidate is taken; 0 after EXPLORE_UNTIL of the steps."""
EXPLORE_UNTIL = 0.4
PINNED = 0.2
"""Share of the steps in which the first picture stands at the first anchor: the gauge, where there is no survey."""
COARSE = ((0.0, 16, 20), (0.15, 32, 32), (0.45, 64, 48))
"""From this share of the steps on: side of the pictures, cells of the field. Smooth fields first, as in BARF (Lin et al. 2021)."""
COARSE_FORWARD = ((0.0, 16, 16), (0.2, 32, 32), (0.45, 64, 48))
MASK = 0.5
"""Weight of the opacity's squared error beside the colours'."""


@dataclass
class Step:
    """What a step tells."""

    loss: float
    """Mean squared error of colours over the draws, as weighted."""
    classes: float
    """Cross entropy of the probabilities with the assignment."""


class Trainer:
    """The state of a run; everything random comes from one generator.

    Args:
        pictures: all photos.
        settings: of the run.
        held_out: pictures that no gradient comes from.
    """

    def __init__(
        self, pictures: Pictures, settings: DiffusionSettings, held_out: tuple[int, ...] = ()
    ) -> None:
        self.pictures, self.settings, self.step = pictures, settings, 0
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.used = torch.tensor([i for i in range(len(pictures)) if i not in held_out])
        self.focal = pictures.focal
        self.fixed_side = 0
        """Side of the pictures that rays take their colours from, in place of the stage's; 0: the stage's."""
        self.found: Survey | None = None
        first = (COARSE if settings.orbit else COARSE_FORWARD)[0][2]
        if settings.orbit:
            self.half = box_half(pictures, RADIUS)
            self.mode: SingleCamera | CandidateSphere = CandidateSphere(settings.candidates, RADIUS)
            self.volume = Volume(Cube(self.half), first, self.generator, background=not pictures.masked)
        else:
            space = Frustum(self.focal)
            self.mode = SingleCamera(float(space.depth(torch.tensor(0.5))))
            self.volume = Volume(space, first, self.generator, background=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.encoder = PoseEncoder(settings.canvas, settings.width, self.mode.outputs, settings.blocks)
        self.smoothed = copy.deepcopy(self.encoder).requires_grad_(False)
        """Exponential mean of the encoder's weights, for the read-out."""
        self._make_optimisers()

    def _make_optimisers(self) -> None:
        self.encoder_optimiser = torch.optim.Adam(self.encoder.parameters(), lr=self.settings.encoder_rate)
        self._make_field_optimiser()

    def _make_field_optimiser(self) -> None:
        self.field_optimiser = torch.optim.Adam(
            self.volume.parameters(), lr=self.settings.field_rate, betas=(0.9, 0.98)
        )

    def look_around(self, check: Callable[[float], None]) -> None:
        """Find the first field and cameras by `survey`."""
        part = self.pictures if len(self.used) == len(self.pictures) else _subset(self.pictures, self.used)
        found = survey(part, self.half, RADIUS, self.settings.restarts, self.generator, check)
        everywhere = Poses(torch.zeros(len(self.pictures), 3, 3), torch.zeros(len(self.pictures), 3))
        everywhere.rotation[self.used], everywhere.centre[self.used] = (
            found.poses.rotation,
            found.poses.centre,
        )
        self.found = Survey(found.volume, everywhere, found.error)
        self.volume = found.volume
        self._make_field_optimiser()

    @property
    def share(self) -> float:
        """Of the steps that are done."""
        return self.step / self.settings.steps

    @property
    def side(self) -> int:
        """Of the pictures that rays take their colours from at present."""
        return self.fixed_side or self.pictures.level(self._stage()[1])

    def _stage(self) -> tuple[float, int, int]:
        table = COARSE if self.settings.orbit else COARSE_FORWARD
        return max(row for row in table if row[0] <= self.share)

    def advance(self) -> Step:
        """One step."""
        self._set_stage()
        settings, generator = self.settings, self.generator
        chosen = self.used[torch.randint(len(self.used), (settings.images,), generator=generator)].repeat(2)
        raw, weight = self._encode(chosen)
        poses, log_p = self.mode.poses(raw)
        own = self._autonomy()
        best, guide = self._assign(poses, log_p, chosen, own)
        rows = torch.arange(len(chosen))
        pose = poses[rows, best]
        from_guide = guide is not None and float(torch.rand((), generator=generator)) > own
        rendered = guide if guide is not None and from_guide else pose
        errors = self.ray_errors(rendered, chosen, settings.rays)
        # Cameras that no noise has touched teach the field at full weight.
        loss = (errors if from_guide else weight * errors).mean()
        classes = F.nll_loss(log_p, best)
        total = loss + settings.classify * classes + settings.smooth * self.volume.roughness()
        if guide is not None:
            total = total + (1 - own) * 0.1 * (weight * difference(pose, guide)).mean()
        total = total + self._agreement(pose, best, weight)
        self.encoder_optimiser.zero_grad(set_to_none=True)
        self.field_optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self._set_rates()
        self.encoder_optimiser.step()
        self.field_optimiser.step()
        self._smooth_weights()
        self.step += 1
        return Step(float(loss.detach()), float(classes.detach()))

    def _encode(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Raw numbers of the pictures under fresh noise, and what their errors weigh."""
        clean = self.pictures.canvas[chosen]
        if not self.settings.denoise:
            t = torch.zeros(len(chosen), dtype=torch.int64)
            return self.encoder(clean, t), torch.ones(len(chosen))
        t = draw_steps(len(chosen), self.generator, self.settings.uniform_steps)
        noise = torch.randn(clean.shape, generator=self.generator)
        weight = loss_weight(t) if self.settings.weighted else torch.ones(len(chosen))
        return self.encoder(add_noise(clean, t, noise), t), weight

    def _autonomy(self) -> float:
        """0 while the survey's cameras lead, 1 once the encoder is on its own."""
        if self.found is None:
            return 1.0
        return min(max((self.share - GUIDED[0]) / (GUIDED[1] - GUIDED[0]), 0.0), 1.0)

    def _assign(self, poses: Poses, log_p: Tensor, chosen: Tensor, own: float) -> tuple[Tensor, Poses | None]:
        """The candidate of every draw, and the survey's camera while it leads."""
        if isinstance(self.mode, SingleCamera):
            return torch.zeros(len(chosen), dtype=torch.int64), None
        if self.found is not None and own < 1.0:
            guide = self.found.poses[chosen]
            return self.mode.nearest(guide.centre), guide
        best = self._probe(poses, chosen)
        if self.found is None and self.share < PINNED:
            first = chosen == self.used[0]
            best = torch.where(first, 0, best)
            if bool(first.any()):
                anchor = self.mode.poses(torch.zeros(1, self.mode.outputs))[0][:, 0]
                poses.rotation[first, 0] = anchor.rotation
                poses.centre[first, 0] = anchor.centre
        return best, None

    @torch.no_grad()
    def _probe(self, poses: Poses, chosen: Tensor) -> Tensor:
        """Errors of a few rays under all candidates decide; early on the second or third best is taken now and then."""
        count = self.settings.probe_rays
        candidates = poses.centre.shape[1]
        pixels = self._pixels(chosen, count)
        flat = Poses(poses.rotation.flatten(0, 1), poses.centre.flatten(0, 1))
        pictures, pixels = chosen.repeat_interleave(candidates), pixels.repeat_interleave(candidates, 0)
        errors = self._errors(flat, pictures, pixels, samples=24).view(len(chosen), candidates)
        order = errors.argsort(1)
        wild = EXPLORE * max(0.0, 1 - self.share / EXPLORE_UNTIL) if self.found is None else 0.0
        rank = torch.where(
            torch.rand(len(chosen), generator=self.generator) < wild,
            torch.randint(1, 3, (len(chosen),), generator=self.generator),
            0,
        )
        return order.gather(1, rank[:, None])[:, 0]

    def ray_errors(self, poses: Poses, chosen: Tensor, count: int) -> Tensor:
        """(B,) mean squared error of `count` rays of each picture, with gradient."""
        return self._errors(poses, chosen, self._pixels(chosen, count), self.settings.samples)

    def _errors(self, poses: Poses, chosen: Tensor, pixels: Tensor, samples: int) -> Tensor:
        side = self.side
        target = self.pictures.levels[side][chosen[:, None], pixels]  # (B, P, 5)
        local = local_rays(side, pixels, self.focal)
        rgb, opacity = render(self.volume, poses, local, samples, self.generator)
        error = (rgb - target[..., :3]).square().mean(-1)
        if self.pictures.masked:
            error = error + MASK * (opacity - target[..., 3]).square()
        inside = target[..., 4]
        return (error * inside).sum(1) / inside.sum(1).clamp_min(1.0)

    def _pixels(self, chosen: Tensor, count: int) -> Tensor:
        """(B, count) pixels of each picture; half of them on the object where there are masks."""
        side = self.side
        anywhere = torch.randint(side * side, (len(chosen), count), generator=self.generator)
        if not self.pictures.masked:
            return anywhere
        alpha = self.pictures.levels[side][chosen, :, 3] + 1e-6
        on_object = torch.multinomial(alpha, count // 2, replacement=True, generator=self.generator)
        return torch.cat([on_object, anywhere[:, count // 2 :]], 1)

    def _agreement(self, pose: Poses, best: Tensor, weight: Tensor) -> Tensor:
        """Cameras of two draws of a picture must agree (spec A.9); nothing for draws under different candidates."""
        if not self.settings.denoise or self.share < 0.2:
            return weight.new_zeros(())
        half = len(best) // 2
        same = (best[:half] == best[half:]) * torch.minimum(weight[:half], weight[half:])
        return self.settings.agree * (same * difference(pose[:half], pose[half:])).mean()

    def _set_stage(self) -> None:
        cells = max(self._stage()[2], self.volume.cells if self.found is not None else 0)
        if cells != self.volume.cells:
            self.volume.refine(cells)
            self._make_field_optimiser()

    def _set_rates(self) -> None:
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, self.share)))
        for group in self.encoder_optimiser.param_groups:
            group["lr"] = self.settings.encoder_rate * (0.1 + 0.9 * fall)
        for group in self.field_optimiser.param_groups:
            group["lr"] = self.settings.field_rate * 0.1**self.share

    @torch.no_grad()
    def _smooth_weights(self) -> None:
        keep = min(0.999, (1 + self.step) / (10 + self.step))
        for mean, weight in zip(self.smoothed.parameters(), self.encoder.parameters(), strict=True):
            mean.lerp_(weight, 1 - keep)

    def state(self) -> dict[str, Any]:
        """Everything that a run needs to go on, for `torch.save`."""
        found = self.found
        return {
            "step": self.step,
            "generator": self.generator.get_state(),
            "volume": self.volume.state_dict(),
            "encoder": self.encoder.state_dict(),
            "smoothed": self.smoothed.state_dict(),
            "encoder_optimiser": self.encoder_optimiser.state_dict(),
            "field_optimiser": self.field_optimiser.state_dict(),
            "survey": None if found is None else (found.poses.rotation, found.poses.centre, found.error),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.step = state["step"]
        self.generator.set_state(state["generator"])
        if state["survey"] is not None:
            rotation, centre, error = state["survey"]
            self.found = Survey(self.volume, Poses(rotation, centre), error)
        self.volume.refine(state["volume"]["table"].shape[-1] - 1)
        self.volume.load_state_dict(state["volume"])
        self.encoder.load_state_dict(state["encoder"])
        self.smoothed.load_state_dict(state["smoothed"])
        self._make_optimisers()
        self.encoder_optimiser.load_state_dict(state["encoder_optimiser"])
        self.field_optimiser.load_state_dict(state["field_optimiser"])


def render(
    volume: Volume, poses: Poses, local: Tensor, samples: int, jitter: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Colours (B, P, 3) and opacities (B, P) of cameras (B,) along local directions (B or 1, P, 3)."""
    directions = torch.einsum("bij,bpj->bpi", poses.rotation, local.expand(len(poses.centre), -1, -1))
    origins = poses.centre[:, None].expand_as(directions)
    rgb, opacity = volume.render(origins.reshape(-1, 3), directions.reshape(-1, 3), samples, jitter)
    return rgb.view(directions.shape), opacity.view(directions.shape[:2])


def difference(one: Poses, other: Poses) -> Tensor:
    """(B,) squared differences of the rotations and of the centres.

    Half of the matrices' squared difference, which is the squared angle where it is small; centres in orbit radii.
    """
    turned = 0.5 * (one.rotation - other.rotation).square().sum((-1, -2))
    return turned + ((one.centre - other.centre) / RADIUS).square().sum(-1)


def box_half(pictures: Pictures, radius: float) -> float:
    """Half the side of a cube around the origin that holds what the pictures show from `radius` away."""
    reach = 0.5
    if pictures.masked:
        side = max(pictures.levels)
        alpha = pictures.levels[side][..., 3].amax(0).view(side, side) > 0.5
        y, x = alpha.nonzero().unbind(1)
        if len(x):
            reach = float(torch.maximum((x + 0.5) / side - 0.5, (y + 0.5) / side - 0.5).abs().max())
            reach = max(reach, 0.5 - float(torch.minimum(x, y).min()) / side)
    # A corner of the object may come nearer to a camera than the middle of the cube, and look larger.
    return min(1.0 * reach * radius / pictures.focal, 0.45 * radius)


def _subset(pictures: Pictures, rows: Tensor) -> Pictures:
    levels = {side: pixels[rows] for side, pixels in pictures.levels.items()}
    return Pictures(pictures.canvas[rows], levels, pictures.focal, pictures.masked)
