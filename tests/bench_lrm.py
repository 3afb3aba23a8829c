# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundled one-picture model on the nine test meshes: `python -m tests.bench_lrm --records FOLDER --out FOLDER`.

With `--held N` instead on N validation objects of the packs: by that recipes and checkpoints are chosen. Each mesh of `../shared/data/meshes` is pictured at 30 degrees azimuth and 20 degrees elevation, reconstructed, stood up
by the stance that the network sees, and scored by `../shared/tools/mesh_score.py` (turns about the vertical, scale, ICP).
Three baselines get the same pictures and score: the silhouette inflated (stood up by the true elevation), the mean
training shape, and the training object whose picture is nearest. PSNR and IoU are of eight other views in the known
frame, without any alignment. Results: OUT/scores.json, OUT/views.png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from maquette.core.models.lrm.object_lrm import ObjectLRM, Stance, crop_picture, upright
from maquette.core.surface.extract import ExtractSettings, extract_surface
from maquette.core.types import Camera
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, map_coordinates, zoom
from skimage.measure import marching_cubes

from training.object_lrm.objects import ColouredMesh, family, held_out, pack_objects, unit_box
from training.object_lrm.records import SIDE as FINE
from training.object_lrm.records import Draw, corner_normals, framed_camera, layers, picture

SHARED = Path(__file__).parents[2] / "shared"
WEIGHTS = Path(__file__).parents[1] / "core/weights/object_lrm/object_lrm.safetensors"
PACKS = SHARED / "training_packs/cc0_objects"
DRAW = Draw(30, 20)
GRID = 64
Z_UP, Y_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])


@dataclass(frozen=True)
class TexturedMesh(ColouredMesh):
    """A test mesh: corner colours times the textures of its materials."""

    corner_uv: NDArray[np.float32]
    material: NDArray[np.int64]
    """(F,) index of `textures`, -1: none."""
    textures: list[NDArray[np.float32]]

    def colours(self, face: NDArray[np.int32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        rgb = super().colours(face, weights)
        uv = (weights[..., None] * self.corner_uv[face]).sum(1)
        for index, texture in enumerate(self.textures):
            chosen = self.material[face] == index
            h, w = texture.shape[:2]
            at = [(1 - uv[chosen, 1]) * h - 0.5, uv[chosen, 0] * w - 0.5]
            rgb[chosen] *= np.stack(
                [map_coordinates(texture[..., k], at, order=1, mode="grid-wrap") for k in range(3)], 1
            )
        return rgb


@dataclass(frozen=True)
class Found:
    """A reconstruction: vertices in an upright frame, z up, and colours."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    colours: NDArray[np.float64] | None = None


def load_mesh(path: Path) -> TexturedMesh:
    """A mesh file, y up -> z up, longest side 1."""
    vertices, faces, colours, uvs, material, textures = [], [], [], [], [], []
    start = 0
    for part in trimesh.load(path, force="scene").dump():
        v, f = np.asarray(part.vertices), np.asarray(part.faces)
        rgb, uv, index = np.full((len(v), 3), 0.7), np.zeros((len(v), 2)), -1
        visual = part.visual
        if visual.kind == "texture":
            factor = visual.material.baseColorFactor
            rgb[:] = 1.0 if factor is None else _srgb(np.asarray(factor[:3]) / 255)
            if visual.material.baseColorTexture is not None and visual.uv is not None:
                textures.append(np.asarray(visual.material.baseColorTexture.convert("RGB"), np.float32) / 255)
                index, uv = len(textures) - 1, np.asarray(visual.uv)
        elif visual.kind == "vertex":
            rgb = np.asarray(visual.vertex_colors)[:, :3] / 255
        vertices.append(v), faces.append(f + start), colours.append(rgb[f]), uvs.append(uv[f])
        material.append(np.full(len(f), index))
        start += len(v)
    upright_vertices = unit_box((np.concatenate(vertices) @ Z_UP.T).astype(np.float32))
    return TexturedMesh(
        path.stem, upright_vertices, np.concatenate(faces), np.concatenate(colours).astype(np.float32),
        np.concatenate(uvs).astype(np.float32), np.concatenate(material), textures,
    )  # fmt: skip


def _srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """glTF's base colour factors are linear."""
    return np.where(linear < 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055)


def reconstructed(
    model: ObjectLRM, rgba: NDArray[np.uint8], resolution: int = 96
) -> tuple[Found, Found, Stance]:
    """Picture -> object standing upright, and the same in the field's own frame."""
    with torch.inference_mode():
        field, stance = model.field(rgba)
        mesh = extract_surface(field, ExtractSettings(resolution=resolution))
        colours = field.appearance(torch.from_numpy(mesh.vertices)).numpy()
    vertices, faces = mesh.vertices.astype(float), mesh.faces.astype(np.int64)
    return Found(vertices @ upright(stance).T, faces, colours), Found(vertices, faces, colours), stance


def inflated(rgba: NDArray[np.uint8]) -> Found:
    """Silhouette -> a body whose half thickness at distance D from the outline is sqrt(D (2 D_max - D))."""
    alpha = crop_picture(rgba, GRID)[3].numpy()
    distance = distance_transform_edt(alpha > 0.5) / (GRID / 2)
    thick = np.sqrt(distance * (2 * distance.max() - distance))
    y = np.linspace(-1, 1, GRID)
    solid = np.flip(thick, 0).T[:, None, :] - np.abs(y)[None, :, None] - 1e-3  # x, y, z
    e = np.radians(DRAW.elevation)
    found = surfaced(solid, 0.0)
    return Found(found.vertices @ upright(Stance(np.array([0, -np.sin(e), np.cos(e)]), 0.3)).T, found.faces)


def mean_shape(meshes: list[ColouredMesh]) -> Found:
    """Share of the training objects that are solid, cut where its volume is their mean volume; standing, front -y."""
    total = np.zeros((24, 24, 24))
    for mesh in meshes:
        total += solid_cells(mesh, 24)
    share = zoom(total / len(meshes), 2, order=1)
    return surfaced(share, float(np.quantile(share, 1 - total.mean() / len(meshes))))


def solid_cells(mesh: ColouredMesh, count: int) -> NDArray[np.bool_]:
    """(count,)^3, x y z over -0.6..0.6: cells between the first and the last surface as seen along each of three axes."""
    solid = np.ones((count,) * 3, bool)
    middles = ((np.arange(count) + 0.5) / count - 0.5) * 1.2
    for axis in range(3):
        order = [(axis + 1) % 3, (axis + 2) % 3, axis]
        turned = replace(mesh, vertices=np.ascontiguousarray(mesh.vertices[:, order]))
        pose, far = np.eye(4), 100.0
        pose[2, 3] = -far
        camera = Camera("", count, count, *(2 * [far * count / 1.2]), *(2 * [count / 2]), pose)
        first, last, _ = layers(turned, camera)
        between = (middles > first[..., None] - far) & (
            middles < last[..., None] - far
        )  # rows: second, columns: first
        solid &= np.transpose(between, np.argsort([order[1], order[0], axis]))
    return solid


def nearest_object(rgba: NDArray[np.uint8], records: Path, packs: dict[str, ColouredMesh]) -> Found:
    """The training object with the nearest picture: L2 of the 24 x 24 premultiplied RGBA crop."""
    wanted = _small((crop_picture(rgba, FINE).permute(1, 2, 0).numpy() * 255)[None])
    best = (np.inf, "")
    for path in sorted(records.glob("packs*.npy")):
        for record in np.load(path, mmap_mode="r"):
            gap = float(((_small(record["pictures"]) - wanted) ** 2).mean((1, 2, 3)).min())
            best = min(best, (gap, record["name"].decode()))
    mesh = packs[best[1]]
    return Found(mesh.vertices.astype(float), mesh.faces)


def _small(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    rgba = pictures.astype(np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    return rgba.reshape(len(rgba), 24, FINE // 24, 24, FINE // 24, 4).mean((2, 4))


def surfaced(values: NDArray[np.float64], level: float) -> Found:
    """Grid over -1..1, larger inside -> surface."""
    padded = np.pad(values, 1, constant_values=values.min() - 1)
    vertices, faces, _, _ = marching_cubes(padded, level)
    return Found((vertices - 1) / (np.array(values.shape) - 1) * 2 - 1, faces[:, ::-1])


def scored(true: Path, found: Found, path: Path) -> dict[str, float]:
    """mesh_score.py's line for a reconstruction, written to `path` with y up."""
    trimesh.Trimesh(found.vertices @ Y_UP.T, found.faces, process=False).export(path)
    command = [sys.executable, str(SHARED / "tools/mesh_score.py"), str(true), str(path)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def other_views(mesh: ColouredMesh, found: Found) -> tuple[dict[str, float], NDArray[np.uint8]]:
    """PSNR (on grey) and silhouette IoU of eight unlit views around, means, and from 90 and 180 degrees; and a strip of
    true over found pictures: the given view, the eight, 90, 180.
    """
    _, frame, _, _ = framed_camera(mesh.vertices, DRAW)
    inverse = np.linalg.inv(frame[:, :3])
    vertices = ((found.vertices - frame[:, 3]) @ inverse.T).astype(np.float32)
    assert found.colours is not None
    corner = np.clip(found.colours, 0, 1).astype(np.float32)[found.faces]
    copy = ColouredMesh("found", vertices, found.faces, corner)
    psnr, iou, strip = {}, {}, []
    for turn in (*range(0, 360, 40), 90, 180):
        camera, *_ = framed_camera(mesh.vertices, Draw(DRAW.azimuth + turn, DRAW.elevation))
        pair = [picture(m, corner_normals(m), camera, None).astype(float) / 255 for m in (mesh, copy)]
        flat = [p[..., :3] * p[..., 3:] + 0.5 * (1 - p[..., 3:]) for p in pair]
        strip.append(np.concatenate(flat))
        psnr[turn] = float(-10 * np.log10(max(((flat[0] - flat[1]) ** 2).mean(), 1e-9)))
        true, got = (p[..., 3] > 0.5 for p in pair)
        iou[turn] = float((true & got).sum() / (true | got).sum())
    eight = range(40, 360, 40)
    numbers = {"psnr": np.mean([psnr[t] for t in eight]), "iou": np.mean([iou[t] for t in eight])}
    numbers |= {f"psnr_{t}": psnr[t] for t in (90, 180)} | {f"iou_{t}": iou[t] for t in (90, 180)}
    return numbers, (np.concatenate(strip, 1) * 255).astype(np.uint8)


def test_meshes() -> Iterator[tuple[Path, ColouredMesh]]:
    """The nine, with their files."""
    for path in sorted((SHARED / "data/meshes").glob("*.*")):
        yield path, load_mesh(path)


def held_objects(count: int, out: Path) -> Iterator[tuple[Path, ColouredMesh]]:
    """So many of the packs' held-out families, no two of one family; written to files for `mesh_score.py`."""
    held = {family(mesh.name): mesh for mesh in pack_objects(PACKS) if held_out(mesh.name)}
    for number in np.random.default_rng(0).permutation(len(held))[:count]:
        mesh = list(held.values())[number]
        path = out / f"held_{number}.ply"
        trimesh.Trimesh(mesh.vertices @ Y_UP.T, mesh.faces, process=False).export(path)
        yield path, mesh


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments.add_argument("--records", type=Path, help="training records: also score the three baselines")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument(
        "--held", type=int, default=0, help="validation objects, in place of the test meshes"
    )
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    methods: dict[str, Callable[[NDArray[np.uint8]], Found]] = {}
    if options.records:
        packs = {mesh.name: mesh for mesh in pack_objects(PACKS)}
        mean = mean_shape([mesh for mesh in packs.values() if not held_out(mesh.name)])
        methods = {
            "inflated": inflated,
            "mean shape": lambda _: mean,
            "nearest object": lambda rgba: nearest_object(rgba, options.records, packs),
        }
    model = ObjectLRM.from_file(options.weights) if options.weights.exists() else None
    table: dict[str, dict[str, dict[str, float]]] = {}
    strips = []
    for path, mesh in held_objects(options.held, options.out) if options.held else test_meshes():
        camera, *_ = framed_camera(mesh.vertices, DRAW, side=384)
        rgba = picture(mesh, corner_normals(mesh), camera, np.random.default_rng(0))
        if model is not None:
            start = time.perf_counter()
            found, in_field, stance = reconstructed(model, rgba)
            seconds = time.perf_counter() - start
            scores = scored(path, found, options.out / f"{path.stem}.ply")
            numbers, strip = other_views(mesh, in_field)
            scores |= numbers | {"elevation": stance.elevation, "seconds": seconds}
            table.setdefault("model", {})[path.stem] = scores
            strips.append(strip)
        for name, method in methods.items():
            table.setdefault(name, {})[path.stem] = scored(path, method(rgba), options.out / "baseline.ply")
        print(path.stem, {name: rows[path.stem]["f@0.1"] for name, rows in table.items()}, flush=True)
    for rows in table.values():
        keys = [key for key in next(iter(rows.values())) if key not in ("faces", "watertight")]
        rows["mean"] = {key: round(float(np.mean([row[key] for row in rows.values()])), 4) for key in keys}
    (options.out / "scores.json").write_text(json.dumps(table, indent=1))
    if strips:
        Image.fromarray(np.concatenate(strips)).save(options.out / "views.png")
    for name, rows in table.items():
        print(f"{name:16s}", rows["mean"])


if __name__ == "__main__":
    main()
