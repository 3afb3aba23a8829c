# SPDX-License-Identifier: GPL-3.0-or-later
"""Our networks for heads on heads that never trained: `python -m tests.bench_heads parser [--heads N]`, `... faces FOLDER`,
`... finder`, `... spread`.

`spread` prints how different random heads are from each other (a generator has to reach 70 % of both), and how many
directions hold their shapes.

`finder` looks for the heads of `tests.bench_blending inversion` in their photos and prints how far their cameras are off.

`parser` draws new heads of both packs (seeds of their own, nothing cached) and prints, for EG3D's crops as rendered and for
pictures made hard as in training, IoU per part and their mean, and the errors of the camera. `faces` reads photos of a folder and
writes what is found in them to a sheet.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from maquette.core.cameras.rotations import angle_deg
from maquette.core.models.heads.faces import POSE_WEIGHTS, WEIGHTS, face_parts, find_faces, read_closely
from maquette.core.models.heads.parser import HeadParser
from maquette.core.models.heads.pose_reader import PoseReader
from PIL import Image, ImageDraw, ImageOps

from tests.bench_blending import HELD_OUT, held_out
from training.heads.dataset import Records
from training.heads.drawing import draw
from training.heads.generate import write_shard
from training.heads.heads import Wardrobe
from training.heads.ict import IctHeads
from training.heads.looks import random_light
from training.heads.makehuman import EMPHASIS
from training.heads.records import View
from training.heads.validate_parser import validate

PACKS = Path(__file__).parents[2] / "shared/training_packs"
SEED, TARGET = 4242, 0.80
"""Of the benchmark's heads; mean IoU to reach."""
COLOURS = np.array(
    [
        (40, 40, 40), (230, 190, 160), (120, 70, 30), (60, 120, 255), (255, 0, 255), (255, 160, 0), (255, 0, 0),
        (0, 200, 0), (120, 120, 200),
    ],
    np.uint8,
)  # fmt: skip


def parser_rows(network: HeadParser, heads: int) -> None:
    """Both packs, easy and hard."""
    wardrobe = Wardrobe(PACKS / "makehuman_head")
    sources = {"makehuman": wardrobe, "ict": IctHeads(PACKS / "ict_facekit", wardrobe)}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, source) in enumerate(sources.items()):
            write_shard(Path(folder) / f"{name}-0000.npy", source, SEED + number, range(heads))
        for kind in ("makehuman", "ict", ""):
            for easy in (True, False):
                scores = validate(network, Records(Path(folder), kind), easy)
                title = f"{kind or 'both packs'}, {'crops as rendered' if easy else 'made hard'}"
                print(f"{title}: mean IoU {scores['mean_iou']:.3f} (target {TARGET})")
                print("  " + json.dumps({k: v for k, v in scores.items() if k != "mean_iou"}))


def spread(heads: int, side: int = 64) -> None:
    """Mean over all pairs of the mean differences of depth and colour on the pixels that both heads cover, from in front."""
    wardrobe = Wardrobe(PACKS / "makehuman_head")
    for name, source in {"makehuman": wardrobe, "ict": IctHeads(PACKS / "ict_facekit", wardrobe)}.items():
        rng = np.random.default_rng(SEED)
        depths, colours, shapes = [], [], []
        for _ in range(heads):
            traits = source.traits(rng)
            layers = source.layers(traits)
            drawn = draw(layers, View(0, 0).camera(side), random_light(rng), EMPHASIS)
            depths.append(drawn.depth)
            colours.append(np.where(drawn.rgba[..., 3:] > 127, drawn.rgba[..., :3] / 255.0, np.nan))
            shapes.append(layers[0].vertices[np.unique(layers[0].faces)].reshape(-1))
        pairs = [(i, j) for i in range(heads) for j in range(i)]
        depth = np.mean([np.nanmean(np.abs(depths[i] - depths[j])) for i, j in pairs])
        colour = np.mean([np.nanmean(np.linalg.norm(colours[i] - colours[j], axis=-1)) for i, j in pairs])
        points = np.stack(shapes)
        apart = np.mean(
            [np.linalg.norm((points[i] - points[j]).reshape(-1, 3), axis=1).mean() for i, j in pairs]
        )
        variance = np.linalg.svd(points - points.mean(0), compute_uv=False) ** 2
        held = np.searchsorted(np.cumsum(variance) / variance.sum(), [0.9, 0.99]) + 1
        print(
            f"{name}: {heads} heads, depth apart {depth:.4f}, vertices apart {apart:.4f} (EG3D's units), "
            f"colour apart {colour:.3f}; 90 % of the shapes' variance in {held[0]} directions, 99 % in {held[1]}"
        )


def finder_rows(network: HeadParser, reader: PoseReader, heads: int, seed: int) -> None:
    """Errors of the cameras of photos, before anything is fitted: the finder's, and the pose encoder's."""
    wrong: dict[str, list[float]] = {"finder": [], "pose encoder": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(heads):
            shown = held_out(number, seed, Path(folder))
            path, camera = shown.path, shown.camera
            with Image.open(path) as file:
                rgb = np.asarray(file.convert("RGB"))
            faces = find_faces(network, rgb)
            if len(faces) != 1:
                print(f"{path.name}: {len(faces)} faces (yaw {shown.yaw:.0f})")
            for face in faces[:1]:
                for name, one in (("finder", face), ("pose encoder", read_closely(reader, rgb, face))):
                    solved = one.camera(path.name, camera.width, camera.height).cam_to_world[:3, :3]
                    wrong[name].append(angle_deg(solved.T @ camera.cam_to_world[:3, :3]))
    for name, angles in wrong.items():
        found = np.array(angles, np.float64)
        print(
            f"{name}: {len(found)} of {heads} found, cameras off by {found.mean():.1f} degrees mean, {np.median(found):.1f} median, "
            f"{found.max():.1f} at most, {(found <= 3).sum()} within 3"
        )


def face_sheet(network: HeadParser, photos: list[Path], out: Path, height: int = 240) -> None:
    """Each photo with the crops found, and the parts of the surest face."""
    rows = []
    for path in photos:
        with Image.open(path) as file:
            rgb = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
        faces = find_faces(network, rgb)
        marked = Image.fromarray(rgb)
        pen = ImageDraw.Draw(marked)
        for face in faces:
            turn = np.radians(face.roll)
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * face.side / 2
            matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            line = [tuple(p) for p in (corners @ matrix.T + [face.x, face.y]).tolist()]
            pen.line(line, fill=(255, 0, 0), width=max(rgb.shape[0] // 150, 2))
            print(f"{path.name}: {face}")
        if not faces:
            print(f"{path.name}: no face")
        parts = COLOURS[face_parts(network, rgb, faces[0])] if faces else np.zeros_like(rgb)
        width = height * rgb.shape[1] // rgb.shape[0]
        pair = [np.asarray(picture.resize((width, height))) for picture in (marked, Image.fromarray(parts))]
        rows.append(np.concatenate(pair, 1))
    across = max(row.shape[1] for row in rows)
    sheet = np.concatenate([np.pad(row, ((0, 0), (0, across - row.shape[1]), (0, 0))) for row in rows])
    Image.fromarray(sheet).save(out)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("row", choices=("parser", "finder", "faces", "spread"))
    arguments.add_argument("folder", type=Path, nargs="?")
    arguments.add_argument("--heads", type=int, default=32, help="of either pack")
    arguments.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments.add_argument("--pose", type=Path, default=POSE_WEIGHTS)
    arguments.add_argument(
        "--seed", type=int, default=HELD_OUT, help="of finder's heads; others are for development"
    )
    arguments.add_argument("--out", type=Path, default=Path("build/faces.png"))
    options = arguments.parse_args()
    torch.set_num_threads(1)
    if options.row == "spread":
        spread(options.heads)
    elif options.row == "finder":
        reader = PoseReader.from_file(options.pose)
        finder_rows(HeadParser.from_file(options.weights), reader, options.heads, options.seed)
    elif options.row == "parser":
        parser_rows(HeadParser.from_file(options.weights), options.heads)
    else:
        photos = sorted(
            p for p in options.folder.iterdir() if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"}
        )
        face_sheet(HeadParser.from_file(options.weights), photos, options.out)


if __name__ == "__main__":
    main()
