# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled head generator: `python -m tests.bench_generator [--heads 64] [--model FILE] [--out FOLDER] [--jobs 2]`.

Random heads (seeds 0, 1 ...; no truncation). Closed: a watertight mesh of 128 cubed, as a head's job makes it; single: in one
piece. Parts: what the face parser finds in the head's pictures from three sides over grey (hair is asked for where the code has a
hairstyle), for comparison in the drawn head's, and, of heads that hide some, in those of the same code without hair. Views: the
picture from 10 degrees left, warped by its depth into the one from 10 degrees right, PSNR where both see the same point. Different:
depth and colour apart on the pixels that two heads share from in front, mean over all pairs, beside the drawn heads of the same codes.
`sheet.png` shows the heads from in front, and the drawn ones below each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.models.eg3d.rays import camera_rays
from maquette.core.models.heads.codes import SCALE, groups, settle
from maquette.core.models.heads.faces import WEIGHTS as PARSER
from maquette.core.models.heads.faces import Face, face_parts
from maquette.core.models.heads.generator import HeadGenerator, load_generator
from maquette.core.models.heads.parser import PARTS, HeadParser
from maquette.core.pipelines.field_to_result import surface_field
from maquette.core.pipelines.head_result import SMALLEST_PART
from maquette.core.progress import Progress
from maquette.core.settings import MeshSettings
from maquette.core.surface.report import mesh_report
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from training.heads.coded import CodedHeads
from training.heads.drawing import draw
from training.heads.makehuman import EMPHASIS
from training.heads.records import View

PACKS = Path(__file__).parents[2] / "shared/training_packs"
SIDE = 64
"""Of the pictures that are compared and shown."""
ZOOM = 0.8
"""Of EG3D's focal length: what portraits show."""
LEAST_PIXELS = 12
"""Of a part, in a picture of 256 px: an ear from in front has three times as many."""
TURN = 10.0
"""Degrees to either side."""
GREY = 0.45
SIDES = (0.0, 38.0, -38.0)
"""Yaw of the pictures that parts are looked for in."""


def label_at(yaw: float, elevation: float = 5.0, zoom: float = ZOOM) -> Tensor:
    """(1, 25)"""
    return torch.from_numpy(View(yaw, elevation, zoom).label)[None]


def surface_of(generator: HeadGenerator, planes: Tensor) -> dict[str, Any]:
    """Report of the mesh."""
    settings = MeshSettings(quality="draft", resolution=128)
    progress = Progress()
    progress.set_plan({"surface": 1.0})
    return mesh_report(surface_field(generator.field(planes[0]), settings, progress, SMALLEST_PART))


def missing_parts(reader: HeadParser, pictures: dict[float, NDArray[np.uint8]], bald: bool) -> list[str]:
    """Parts that no picture shows; yaw -> (P, P, 3)."""
    most = dict.fromkeys(PARTS, 0)
    for yaw, rgb in pictures.items():
        side = rgb.shape[0]
        found = face_parts(reader, rgb, Face(side / 2, side / 2, side * ZOOM, 0, yaw, 5))
        for number, name in enumerate(PARTS):
            most[name] = max(most[name], int((found == number).sum()))
    return [name for name in PARTS if most[name] < LEAST_PIXELS and not (bald and name == "hair")]


def on_grey(rgb: NDArray[np.float32], cover: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(P, P, 3) 0..1 over black with its opacity (P, P, 1)."""
    return np.asarray((rgb + GREY * (1 - cover)).clip(0, 1) * 255, np.uint8)


def generated(generator: HeadGenerator, ws: Tensor, planes: Tensor) -> dict[float, NDArray[np.uint8]]:
    """Pictures from three sides."""
    out = {}
    for yaw in SIDES:
        picture, opacity, _ = generator.picture(ws, planes, label_at(yaw))
        cover = F.interpolate(opacity, size=picture.shape[2:], mode="bilinear").clamp(0, 1)
        rgb = ((picture + 1) / 2).clamp(0, 1) * (cover > 1e-3)
        out[yaw] = on_grey(rgb[0].permute(1, 2, 0).numpy(), cover[0].permute(1, 2, 0).numpy())
    return out


def consistency(generator: HeadGenerator, ws: Tensor, planes: Tensor) -> float:
    """PSNR in dB of one view warped into another, 20 degrees apart."""
    pictures, depths, covers, labels = [], [], [], [label_at(-TURN), label_at(TURN)]
    for label in labels:
        picture, _, _ = generator.picture(ws, planes, label)
        side = picture.shape[-1]
        rendered = generator.network.render(planes, label, side // 2)
        depths.append(F.interpolate(rendered.depth, size=(side, side), mode="bilinear")[0, 0])
        covers.append(F.interpolate(rendered.opacity, size=(side, side), mode="bilinear")[0, 0])
        pictures.append((picture.clamp(-1, 1) + 1) / 2)
    side = pictures[0].shape[-1]
    origins, directions = camera_rays(labels[1], side)
    points = origins[0] + directions[0] * depths[1].reshape(-1, 1)
    pose, k = labels[0][0, :16].view(4, 4), labels[0][0, 16:].view(3, 3)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    image = local @ k.T
    grid = (image[:, :2] / image[:, 2:] * 2 - 1).view(1, side, side, 2)
    seen = F.grid_sample(pictures[0], grid, align_corners=False)[0]
    there = F.grid_sample(depths[0][None, None], grid, align_corners=False)[0, 0]
    solid = F.grid_sample(covers[0][None, None], grid, align_corners=False)[0, 0] > 0.98
    both = (covers[1] > 0.98) & solid & ((there - local.norm(dim=1).view(side, side)).abs() < 0.012)
    both &= (grid[0].abs() < 1).all(-1)
    return float(-10 * torch.log10((seen - pictures[1][0]).square().mean(0)[both].mean()))


def apart(fronts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:  # type: ignore[type-arg]
    """Mean over all pairs of the differences of depth and colour; (depth (S, S), colour (S, S, 3)) with NaN beside the head."""
    pairs = [(i, j) for i in range(len(fronts)) for j in range(i)]
    depth = np.mean([np.nanmean(np.abs(fronts[i][0] - fronts[j][0])) for i, j in pairs])
    colour = np.mean([np.nanmean(np.linalg.norm(fronts[i][1] - fronts[j][1], axis=-1)) for i, j in pairs])
    return float(depth), float(colour)


def front(generator: HeadGenerator, ws: Tensor, planes: Tensor, side: int) -> tuple[Any, Any, Any]:
    """z-depth and colours (NaN beside the head), and the picture (side, side, 3) 0..1 over black."""
    label = label_at(0.0, 0.0, 1.0)
    rendered = generator.network.render(planes, label, side)
    picture = (generator.picture(ws, planes, label)[0].clamp(-1, 1) + 1) / 2
    picture = F.interpolate(picture, size=(side, side), mode="area")[0].permute(1, 2, 0)
    _, directions = camera_rays(label, side)
    depth = rendered.depth[0, 0] * (directions[0] @ label[0, :16].view(4, 4)[:3, 2]).view(side, side)
    solid = (rendered.opacity[0, 0] > 0.5).numpy()
    nan = np.float32("nan")
    return (
        np.where(solid, depth.numpy(), nan),
        np.where(solid[..., None], picture.numpy(), nan),
        picture.numpy(),
    )


@torch.no_grad()
def one_head(job: tuple[int, Path | None]) -> dict[str, Any]:
    """All of one seed."""
    seed, model = job
    torch.set_num_threads(1)
    generator, reader, source = opened(model)
    code = generator.z(seed)
    ws = generator.ws(code)
    planes = generator.planes(ws)
    report = surface_of(generator, planes)
    hair = groups()["hair"]
    bald = int(code[0, hair].argmax()) == hair.stop - hair.start - 1
    row = code[0].numpy()
    layers, light = source.layers(row), source.light(row)

    def truth(view: View, side: int) -> tuple[Any, Any, Any]:
        drawn = draw(layers, view.camera(side), light, EMPHASIS)
        rgba = drawn.rgba / np.float32(255)
        return drawn.depth, rgba[..., :3], rgba[..., 3:]

    drawn = {yaw: truth(View(yaw, 5, ZOOM), generator.config.picture) for yaw in SIDES}
    depth, rgb, alpha = truth(View(0, 0), SIDE)
    own_depth, own_colour, picture = front(generator, ws, planes, SIDE)
    missing = missing_parts(reader, generated(generator, ws, planes), bald)
    shaved = code.clone()
    shaved[:, hair.stop - 1] = 2 * SCALE
    bare = generator.ws(settle(shaved))
    return {
        "seed": seed, "closed": bool(report["watertight"]), "single": report["parts"] == 1,
        "missing": missing,
        "missing_shaved": missing and missing_parts(reader, generated(generator, bare, generator.planes(bare)), True),
        "missing_drawn": missing_parts(reader, {y: on_grey(c * a, a) for y, (_, c, a) in drawn.items()}, bald),
        "views": consistency(generator, ws, planes),
        "made": (own_depth, own_colour), "drawn": (depth, np.where(alpha > 0.5, rgb, np.nan)),
        "cell": np.concatenate([picture, rgb * alpha]),
    }  # fmt: skip


@cache
def opened(model: Path | None) -> tuple[HeadGenerator, HeadParser, CodedHeads]:
    """What every head needs."""
    return load_generator(model), HeadParser.from_file(PARSER), CodedHeads(PACKS)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--heads", type=int, default=64)
    arguments.add_argument("--model", type=Path, help="the bundled one")
    arguments.add_argument("--out", type=Path, default=Path("build/bench_generator"))
    arguments.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        rows = pool.map(one_head, [(seed, options.model) for seed in range(options.heads)], chunksize=1)
    ours, theirs = apart([row["made"] for row in rows]), apart([row["drawn"] for row in rows])
    views = np.array([row["views"] for row in rows])
    numbers = {
        "heads": options.heads, "closed": sum(row["closed"] for row in rows), "single": sum(row["single"] for row in rows),
        "all_parts": sum(not row["missing"] for row in rows),
        "all_parts_without_hair": sum(not row["missing_shaved"] for row in rows),
        "all_parts_drawn": sum(not row["missing_drawn"] for row in rows),
        "views_mean_db": round(float(views.mean()), 2), "views_least_db": round(float(views.min()), 2),
        "views_24_db": int((views >= 24).sum()),
        "depth_apart": round(ours[0], 4), "depth_share": round(ours[0] / theirs[0], 3),
        "colour_apart": round(ours[1], 4), "colour_share": round(ours[1] / theirs[1], 3),
    }  # fmt: skip
    print(json.dumps(numbers))
    for row in rows:
        if row["missing"] or row["missing_drawn"] or not (row["closed"] and row["single"]):
            print(
                f"head {row['seed']}: no {', '.join(row['missing']) or '-'} (drawn: no {', '.join(row['missing_drawn']) or '-'}; "
                f"without hair: no {', '.join(row['missing_shaved']) or '-'}), "
                f"closed {row['closed']}, single {row['single']}"
            )
    across = 16
    cells = [row["cell"] for row in rows]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % across)
    lines = [np.concatenate(cells[i : i + across], 1) for i in range(0, len(cells), across)]
    Image.fromarray((np.concatenate(lines) * 255).clip(0, 255).astype(np.uint8)).save(
        options.out / "sheet.png"
    )


if __name__ == "__main__":
    main()
