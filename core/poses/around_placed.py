# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras for the photos that features lost: searched for together with the object that the placed photos show.

A coarse field is fitted to the photos whose cameras are known. Each other photo is compared with renders of it from all
around and drawn to one of them, with falling temperature, in turn with fitting the field to all photos: sides that no placed
photo shows take shape only while photos find their places before them. It is the projection matching of
`diffusion.survey`, held by known cameras. Then field and new cameras move together, finer and finer (BARF, Lin et al. 2021).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..images.undistort import undistort
from ..types import Camera, Photo
from .diffusion.cameras import Poses, looking_at_origin
from .diffusion.pictures import Pictures, local_rays
from .diffusion.volume import Cube, Volume

log = logging.getLogger(__name__)

Map = NDArray[np.float32]
Check = Callable[[], None]

FEWEST = 6
"""Placed photos below which nothing holds the search."""
SIDE = 128
"""Long side of the pictures, pixels."""
RADIUS = 4.0
"""Distance that the placed cameras are scaled to have from the object (median)."""
COARSE, CELLS, SAMPLES = 16, 22, 24
"""Pixels of the compared pictures, cells of their field, samples on a ray."""
AZIMUTHS, ELEVATIONS = 24, 6
"""Renders all around: every 15 degrees. Cameras look down on things: the upper half alone."""
ALONE, ROUNDS, WARM = 10, 30, 0.7
"""Rounds on the placed photos alone, on all, and the share of these in which places are drawn and not the best one taken."""
STARTS = 3
FINER = ((16, 24, 60), (32, 40, 160), (64, 64, 200), (128, 96, 120))
"""Pixels, cells and steps while the new cameras move freely."""
FREE, RAYS = 8, 128
"""Pictures of either kind in a step, and rays of each."""
FITS = 2.5
"""Times the placed photos' median error that a photo may have to be believed."""


@dataclass(frozen=True)
class _Scene:
    """All photos as squares; the first `known` have cameras."""

    pictures: Pictures
    poses: Poses
    """(M,) those of the placed photos; the rest is not set."""
    known: int
    half: float


def place_around(
    missing: Sequence[Photo],
    placed: Mapping[str, Photo],
    cameras: Sequence[Camera],
    outlines: Mapping[str, Map],
    check: Check,
    seed: int = 0,
) -> dict[str, Camera]:
    """Cameras of photos by what others show of the object.

    Args:
        missing: photos without a camera.
        placed: photo name -> photo, of the cameras.
        cameras: those that are known, of full-resolution photos; the object lies around the origin within a radius of
            about one, +Z is up, and they look at it.
        outlines: photo name -> (h, w) float32 0..1 of the whole photo, for all photos; any size.
        check: called often; raises when the artist cancels.
        seed: of all draws.

    Returns:
        Photo name -> camera of the full-resolution photo in the frame of `cameras`; photos that fit nowhere are left out.
    """
    if len(cameras) < FEWEST or not missing:
        return {}
    scale = RADIUS / float(np.median([np.linalg.norm(camera.centre) for camera in cameras]))
    lenses = {photo.name: _lens_for(photo, cameras) for photo in missing}
    scene = _scene(missing, placed, cameras, outlines, lenses, scale)
    generator = torch.Generator().manual_seed(seed)
    best: tuple[float, Volume, Poses] | None = None
    for number in range(STARTS):
        found = _search(scene, generator, check)
        log.info("search %d around the placed photos: error %.5f", number, found[0])
        if best is None or found[0] < best[0]:
            best = found
    assert best is not None
    poses, errors = _finer(scene, best[1], best[2], generator, check)
    usual = float(errors[: scene.known].median())
    out = {}
    for row, photo in enumerate(missing, scene.known):
        share = float(errors[row]) / usual
        log.info("%s around the placed photos: %.2f times their error", photo.name, share)
        if share <= FITS:
            pose = np.eye(4)
            u, _, v = np.linalg.svd(poses.rotation[row].double().numpy())
            pose[:3, :3] = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
            pose[:3, 3] = poses.centre[row].double().numpy() / scale
            out[photo.name] = replace(lenses[photo.name], cam_to_world=pose)
    return out


def _scene(
    missing: Sequence[Photo],
    placed: Mapping[str, Photo],
    cameras: Sequence[Camera],
    outlines: Mapping[str, Map],
    lenses: Mapping[str, Camera],
    scale: float,
) -> _Scene:
    views = [undistort(placed[c.name], c, SIDE, outlines[c.name]) for c in cameras]
    views += [undistort(photo, lenses[photo.name], SIDE, outlines[photo.name]) for photo in missing]
    pixels = []
    for view in views:
        assert view.mask is not None
        pixels.append(torch.from_numpy(np.dstack([view.rgb, view.mask])).permute(2, 0, 1))
    side = max(max(p.shape[1:]) for p in pixels)
    pixels = [
        torch.nn.functional.interpolate(p[None], scale_factor=side / max(p.shape[1:]), mode="area")[0]
        for p in pixels
    ]
    focal = float(np.median([v.camera.fx / max(v.camera.width, v.camera.height) for v in views]))
    known = len(cameras)
    rotation, centre = torch.zeros(len(views), 3, 3), torch.zeros(len(views), 3)
    for row, camera in enumerate(cameras):
        rotation[row] = torch.from_numpy(camera.cam_to_world[:3, :3])
        centre[row] = torch.from_numpy(scale * camera.centre)
    pictures = Pictures.of(pixels, COARSE, focal, True)
    return _Scene(pictures, Poses(rotation, centre), known, _half(pictures, focal))


def _half(pictures: Pictures, focal: float) -> float:
    """Half the side of a cube around the origin that holds what the pictures show, a little more than a ball."""
    side = max(pictures.levels)
    alpha = pictures.levels[side][..., 3].amax(0).view(side, side) > 0.5
    y, x = alpha.nonzero().unbind(1)
    reach = max(float(((v + 0.5) / side - 0.5).abs().max()) for v in (x, y)) if len(x) else 0.5
    return min(reach * RADIUS / focal, 0.45 * RADIUS)


def _search(scene: _Scene, generator: torch.Generator, check: Check) -> tuple[float, Volume, Poses]:
    """(error of the new photos, field, all cameras) of one start."""
    volume = Volume(Cube(scene.half), CELLS, generator, background=False)
    optimiser = torch.optim.Adam(volume.parameters(), lr=0.02, betas=(0.9, 0.98))
    side = scene.pictures.level(COARSE)
    targets = scene.pictures.levels[side][..., :4]
    local = local_rays(side, torch.arange(side * side), scene.pictures.focal)
    every = torch.arange(len(targets))
    poses = scene.poses
    for number in range(ALONE + ROUNDS):
        check()
        used = every[: scene.known]
        if number >= ALONE:
            used = every
            share = (number - ALONE) / ROUNDS
            around = _all_around(generator)
            errors = _errors(volume, around, local, targets[scene.known :])
            chosen = around[_draw(errors, 0.35 * max(0.0, 1 - share / WARM), generator)]
            poses = Poses(
                torch.cat([scene.poses.rotation[: scene.known], chosen.rotation]),
                torch.cat([scene.poses.centre[: scene.known], chosen.centre]),
            )
        for part in used[torch.randperm(len(used), generator=generator)].split(12):
            origins, directions = _rays(poses[part], local)
            rgb, opacity = volume.render(origins, directions, SAMPLES, generator)
            seen = torch.cat([rgb, opacity[:, None]], 1)
            loss = (seen - targets[part].reshape(-1, 4)).square().mean() + 0.02 * volume.roughness()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    return float(errors.min(1).values.mean()), volume, poses


def _all_around(generator: torch.Generator) -> Poses:
    """Cameras over the upper half of the sphere that look at the origin, the lattice shifted at random."""
    shift = torch.rand(2, generator=generator) - 0.5
    azimuth = (torch.arange(AZIMUTHS) + shift[0]) * (2 * math.pi / AZIMUTHS)
    elevation = (torch.arange(ELEVATIONS) + 0.5 + shift[1]) * (0.5 * math.pi / ELEVATIONS)
    azimuth, elevation = torch.meshgrid(azimuth, elevation, indexing="ij")
    return looking_at_origin(azimuth.flatten(), elevation.flatten(), RADIUS)


@torch.no_grad()
def _errors(volume: Volume, around: Poses, local: Tensor, targets: Tensor) -> Tensor:
    """(M, K) mean squared difference of every picture and the render of every camera."""
    bank = []
    for part in torch.arange(len(around.centre)).split(64):
        rgb, opacity = volume.render(*_rays(around[part], local), SAMPLES)
        bank.append(torch.cat([rgb, opacity[:, None]], 1).view(len(part), -1))
    shown, wanted = torch.cat(bank), targets.flatten(1)
    squares = wanted.square().sum(1)[:, None] + shown.square().sum(1)
    return (squares - 2 * wanted @ shown.T) / wanted.shape[1]


def _draw(errors: Tensor, heat: float, generator: torch.Generator) -> Tensor:
    """(M, K) -> (M,) a camera each, the better the likelier; heat in standard deviations of a picture's errors, 0: the best."""
    if heat == 0.0:
        return errors.argmin(1)
    chances = torch.softmax(-errors / (heat * errors.std(1, keepdim=True) + 1e-9), 1)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]


def _rays(poses: Poses, local: Tensor) -> tuple[Tensor, Tensor]:
    """Every camera with every local direction (P, 3), or its own (B, P, 3) -> origins, directions (B * P, 3)."""
    directions = torch.einsum("bij,bpj->bpi", poses.rotation, local.expand(len(poses.centre), -1, -1))
    return poses.centre[:, None].expand_as(directions).reshape(-1, 3), directions.reshape(-1, 3)


def _finer(
    scene: _Scene, volume: Volume, poses: Poses, generator: torch.Generator, check: Check
) -> tuple[Poses, Tensor]:
    """All cameras after the new ones moved with the field, and (M,) errors of the finest pictures."""
    scale = torch.tensor([1.0, 1.0, 1.0, RADIUS, RADIUS, RADIUS])
    pivot, known, total = torch.zeros(3), scene.known, len(poses.centre)
    move = torch.zeros(total - known, 6, requires_grad=True)
    cameras = torch.optim.Adam([move], lr=1e-2)

    def moved() -> Poses:
        new = poses[known:].moved(move * scale, pivot)
        return Poses(
            torch.cat([poses.rotation[:known], new.rotation]), torch.cat([poses.centre[:known], new.centre])
        )

    for side, cells, steps in FINER:
        volume.refine(cells)
        field = torch.optim.Adam(volume.parameters(), lr=0.015, betas=(0.9, 0.98))
        for number in range(steps):
            check()
            field.param_groups[0]["lr"] = 0.015 * 0.3 ** (number / steps)
            cameras.param_groups[0]["lr"] = 0.16 / side * 0.2 ** (number / steps)
            chosen = torch.cat(
                [
                    torch.randperm(known, generator=generator)[:FREE],
                    known + torch.randperm(total - known, generator=generator)[:FREE],
                ]
            )
            loss = _ray_errors(scene, volume, moved()[chosen], chosen, side, RAYS, generator).mean()
            loss = loss + 0.01 * volume.roughness()
            field.zero_grad(set_to_none=True)
            cameras.zero_grad(set_to_none=True)
            loss.backward()
            field.step()
            cameras.step()
    with torch.no_grad():
        final = moved()
        errors = torch.cat(
            [
                _ray_errors(scene, volume, final[part], part, side, 1024, generator)
                for part in torch.arange(total).split(8)
            ]
        )
    return final.detach(), errors


def _ray_errors(
    scene: _Scene,
    volume: Volume,
    poses: Poses,
    chosen: Tensor,
    side: int,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """(B,) mean squared error of colour and opacity over `count` rays of each picture, half of them on the object."""
    side = scene.pictures.level(side)
    level = scene.pictures.levels[side][chosen]
    anywhere = torch.randint(side * side, (len(chosen), count), generator=generator)
    on_object = torch.multinomial(level[..., 3] + 1e-6, count // 2, replacement=True, generator=generator)
    pixels = torch.cat([on_object, anywhere[:, count // 2 :]], 1)
    target = level[torch.arange(len(chosen))[:, None], pixels]
    origins, directions = _rays(poses, local_rays(side, pixels, scene.pictures.focal))
    rgb, opacity = volume.render(origins, directions, SAMPLES + side // 4, generator)
    shown = torch.cat([rgb, opacity[:, None]], 1).view(*pixels.shape, 4)
    inside = target[..., 4]
    error = (shown - target[..., :4]).square().mean(-1) * inside
    return error.sum(1) / inside.sum(1).clamp_min(1.0)


def _lens_for(photo: Photo, cameras: Sequence[Camera]) -> Camera:
    """The lens of the placed photos of the same shape, at this photo's size; of any where none has its shape."""
    shape = photo.width / photo.height
    like = [c for c in cameras if abs(c.width / c.height - shape) < 0.01] or list(cameras)
    values = np.median([[c.fx / max(c.width, c.height), *c.distortion] for c in like], axis=0)
    focal = float(values[0]) * max(photo.width, photo.height)
    k1, k2, p1, p2 = (float(v) for v in values[1:])
    return Camera(
        photo.name, photo.width, photo.height, focal, focal, photo.width / 2, photo.height / 2, np.eye(4),
        (k1, k2, p1, p2),
    )  # fmt: skip
