# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads on what is known exactly: `python -m tests.bench_blending pairs|inversion|portraits --out FOLDER [...]`.

`pairs [--pairs N] [--minutes M] [--jobs J]`: the pairs of `training.heads.pairs` (original, reference, and the original with
the reference's hair, eyes, nose or mouth, truly swapped and rendered). Ours beside 2D ways with and without our 3D alignment:
mean squares and DSSIM over five scales inside the region against the truth (DSSIM is in no loss), PSNR outside it against the original.
Cameras start at the truth, outlines are given; every method gets the same region and number of steps. `sheet.png` shows all.

`inversion [--heads N]`: rendered heads that never trained, before made-up backgrounds, found, cropped and inverted as photos
are: PSNR on the head (without clothes), rotation error of the camera, seconds.

`portraits PHOTO|MESH...`: photos, and head meshes (glb, drawn from ten degrees beside), through `head invert`, on one sheet.

Other `--seed`s than the usual ones are for development.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from maquette.core.blending.alignment import Placement
from maquette.core.blending.blend import BlendEffort, blend, seen
from maquette.core.blending.losses import BlendWeights
from maquette.core.cameras.rotations import angle_deg
from maquette.core.fit.inversion import InversionSettings, Pivot, Portrait, find_pivot, tune
from maquette.core.fit.picture_distance import psnr, pyramid_distance
from maquette.core.images.load import open_photos
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.models.eg3d.cameras import FOCAL, camera_of, intrinsics, label_of
from maquette.core.models.eg3d.generator import Eg3d
from maquette.core.models.heads.faces import orbit_pose
from maquette.core.pipelines import PIPELINES
from maquette.core.pipelines.head_blend import HAIR_COLOUR, SCALE, Source, cloned, detailed, target_for
from maquette.core.pipelines.head_fit import effort, starting_points
from maquette.core.pipelines.head_invert import invert
from maquette.core.pipelines.head_model import OpenModel, find_head_model
from maquette.core.pipelines.head_wanted import Wanted, as_published, wanted_of
from maquette.core.pipelines.portrait import crop_plane, found_portrait
from maquette.core.progress import Progress
from maquette.core.render.shade import render_textured
from maquette.core.results import read_mesh, read_result
from maquette.core.types import Camera
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation
from torch import Tensor

from tests.baselines.blending_2d import latent_composition, poisson
from tests.head_scans import scan_photo
from tests.image_similarity import dssim, masked_l2
from training.heads.dataset import backgrounds
from training.heads.drawing import Drawing, draw
from training.heads.heads import Wardrobe
from training.heads.ict import IctHeads
from training.heads.looks import random_light
from training.heads.makehuman import EMPHASIS
from training.heads.pairs import SEED, Pair, make_pair

PACKS = Path(__file__).parents[2] / "shared/training_packs"
FIT = InversionSettings(latent_steps=60, tuning_steps=24, regular_every=6)
STEPS = 44
"""Of every optimisation after the inversion: ours, pictures alone, and the collage's latent."""
OURS, OURS_SEAMLESS, OURS_PLAIN = "ours", "ours, seamless", "ours without details"
BY_CAMERA = "as published, by camera"
"""3D-aware blending with its global alignment alone: what ours adds to it shows against this."""
TARGETS = {"l2": 23.0, "dssim": 19.0, "outside": 28.0}
"""Per cent below the best 2D way (what the paper's summary reports), and dB."""
HELD_OUT = 9001


def over_black(drawing: Drawing, side: int) -> tuple[Tensor, Tensor]:
    """(1, 3, P, P) -1..1 over black, and its outline (1, 1, P, P)."""
    rgba = torch.from_numpy(drawing.rgba.astype(np.float32) / 255).permute(2, 0, 1)[None]
    rgb, alpha = rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]
    pair = torch.cat([rgb * 2 - 1, alpha], 1)
    if pair.shape[-1] != side:
        pair = F.interpolate(pair, size=(side, side), mode="bilinear", antialias=True)
    return pair[:, :3], pair[:, 3:]


def pivot_of(opened: OpenModel, drawing: Drawing, label: NDArray[np.floating]) -> Pivot:
    """Latent and camera of a rendered head."""
    picture, outline = over_black(drawing, opened.network.config.picture)
    portrait = Portrait(picture, torch.from_numpy(np.float32(label))[None], outline)
    starts = starting_points(opened, portrait, picture)[:1]
    return find_pivot(opened.network, portrait, starts, FIT)


def inverted(opened: OpenModel, pair: Pair, path: Path) -> tuple[list[Pivot], Eg3d]:
    """Pivots of original and reference, and the generator tuned to both; kept in a file, for it takes half of a pair's time."""
    if path.is_file():
        kept = torch.load(path, weights_only=True)
        network = copy.deepcopy(opened.network)
        network.load_state_dict(kept["network"])
        return [Pivot(Portrait(p, start, m), ws, label) for p, start, m, ws, label in kept["pivots"]], network
    pivots = [
        pivot_of(opened, d, c) for d, c in zip((pair.original, pair.reference), pair.cameras, strict=True)
    ]
    network = tune(opened.network, pivots, opened.latent, FIT)
    rows = [(p.portrait.picture, p.portrait.label, p.portrait.mask, p.ws, p.label) for p in pivots]
    torch.save({"pivots": rows, "network": network.state_dict()}, path)
    return pivots, network


def methods(opened: OpenModel, pair: Pair, path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Pictures of every way, and what they are judged by; the inversions are kept at `path`."""
    side = opened.network.config.picture
    pivots, network = inverted(opened, pair, path)
    first, second = pivots
    original, reference = (pivot.portrait.picture for pivot in pivots)
    region = torch.from_numpy(pair.region.astype(np.float32))[None, None]
    mask = (F.interpolate(region, size=(side, side), mode="area") > 0.5).float()
    hair = HAIR_COLOUR if pair.part == "hair" else 1.0
    heads = first.ws, second.ws
    wanted = wanted_of(opened, network, heads, first.label, original, mask, pair.part)
    aligned = wanted.seen(network)[0]

    def blended(weights: BlendWeights, start: Tensor, that: Wanted, photo: Tensor | None = None) -> Tensor:
        goal = partial(target_for, network, first, original, mask, that, photo)
        made = blend(network, start, first.label, goal, BlendEffort(STEPS, weights=weights), pyramid_distance)
        return seen(network, made, first.label).picture

    full = BlendWeights(colour=hair, density=SCALE if opened.bare else 1.0)
    plain = blended(full, wanted.start, wanted)
    sources = [
        Source(name, pivot, None) for name, pivot in zip(("original", "reference"), pivots, strict=True)
    ]
    ours = detailed(network, plain, mask, original, sources, wanted)
    unaligned = as_published(second.ws, Placement(second.label), first.ws)
    alone = BlendWeights(colour=hair, density=0.0)
    collage = replace(FIT, latent_steps=STEPS)
    out = {
        OURS: ours,
        OURS_SEAMLESS: cloned(ours, original, mask, pair.part),
        OURS_PLAIN: plain,
        BY_CAMERA: blended(full, first.ws, as_published(second.ws, Placement(first.label), first.ws)),
        "pictures alone": blended(alone, first.ws, unaligned, reference),
        "pictures alone + 3D": blended(alone, first.ws, wanted),
        "latent composition": latent_composition(network, first, reference, mask, collage),
        "latent composition + 3D": latent_composition(network, first, aligned, mask, collage),
        "Poisson": poisson(original, reference, mask),
        "Poisson + 3D": poisson(original, aligned, mask),
        "nothing done": original,
    }
    known = {
        "original": original, "reference": reference, "truth": over_black(pair.truth, side)[0], "mask": mask,
        "inverted": seen(network, first.ws, first.label).picture, "aligned": aligned,
    }  # fmt: skip
    return out, known


def scores(pictures: dict[str, Tensor], known: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """Per way: mean squares and DSSIM inside, PSNR outside."""
    mask, truth, original = known["mask"], known["truth"], known["original"]
    return {
        name: {
            "l2": masked_l2(p.clamp(-1, 1), truth, mask),
            "dssim": dssim(p.clamp(-1, 1), truth, mask),
            "outside": psnr(p.clamp(-1, 1), original, 1 - mask),
        }
        for name, p in pictures.items()
    }


def one_pair(job: tuple[int, int, str, Path]) -> None:
    """Work off one pair into its files, unless they are there."""
    number, seed, model, out = job
    path = out / f"{number:02d}.json"
    if path.is_file():
        return
    torch.set_num_threads(1)
    began = time.perf_counter()
    opened = find_head_model(model).open(torch.device("cpu"))
    pair = make_pair(Wardrobe(PACKS / "makehuman_head"), number, seed=seed)
    pictures, known = methods(opened, pair, path.with_suffix(".pt"))
    rows = scores(pictures, known)
    shown = [known["original"], known["reference"], known["truth"], known["mask"] * 2 - 1]
    shown += [known["inverted"], known["aligned"], *pictures.values()]
    strip = np.concatenate([as_bytes(p.expand(-1, 3, -1, -1)) for p in shown[:-1]], 1)
    Image.fromarray(strip).resize((strip.shape[1] // 2, strip.shape[0] // 2)).save(path.with_suffix(".png"))
    told = {"part": pair.part, "seconds": time.perf_counter() - began, "scores": rows}
    told["inverted"] = psnr(
        known["inverted"], known["original"], (known["original"] > -0.98).float().amax(1, True)
    )
    path.write_text(json.dumps(told))


def run_pairs(options: argparse.Namespace) -> None:
    """All pairs, in several processes; what is done already is not done again."""
    options.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * options.minutes
    jobs = [(number, options.seed or SEED, options.model, options.out) for number in range(options.pairs)]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        waiting = [pool.apply_async(one_pair, (job,)) for job in jobs]
        for result in waiting:
            try:
                result.get(max(until - time.monotonic(), 0.1))
            except multiprocessing.TimeoutError:
                print(f"stopped after {options.minutes:g} minutes")
                pool.terminate()
                break
    print_pairs(options.out)


def print_pairs(out: Path) -> None:
    """Table of the means over what is done, and the sheet."""
    told = [json.loads(path.read_text()) for path in sorted(out.glob("[0-9][0-9].json"))]
    if not told:
        print("no pair is done")
        return
    parts = {part: sum(row["part"] == part for row in told) for part in sorted({row["part"] for row in told})}
    print(f"{len(told)} pairs {parts}, {np.mean([row['seconds'] for row in told]):.0f} s each")
    print(f"original inverted: {np.mean([row['inverted'] for row in told]):.1f} dB on the head")
    names = list(told[0]["scores"])
    mean = {n: {k: float(np.mean([r["scores"][n][k] for r in told])) for k in TARGETS} for n in names}
    print(f"{'':26s} masked L2   DSSIM   outside dB")
    for name in names:
        print(f"{name:26s} {mean[name]['l2']:9.4f} {mean[name]['dssim']:7.4f} {mean[name]['outside']:8.1f}")
    ways = [n for n in names if n not in (OURS, OURS_SEAMLESS, OURS_PLAIN, BY_CAMERA, "nothing done")]
    flat = [n for n in ways if "3D" not in n]
    for ours, plain in ((o, w) for o in (OURS, OURS_SEAMLESS, OURS_PLAIN) for w in (flat, ways)):
        gains = []
        for key in ("l2", "dssim"):
            best = min(plain, key=lambda n: mean[n][key])
            gain = 100 * (1 - mean[ours][key] / mean[best][key])
            gains.append(f"{key} {gain:+.1f} % against {best} (target {TARGETS[key]:.0f} %)")
        print(
            f"{ours}: {'; '.join(gains)}; outside {mean[ours]['outside']:.1f} dB (target {TARGETS['outside']:.0f})"
        )
    for part in parts:
        line = ", ".join(
            f"{n} {np.mean([r['scores'][n]['l2'] for r in told if r['part'] == part]):.4f}" for n in names
        )
        print(f"  L2 {part}: {line}")
    strips = [np.asarray(Image.open(path)) for path in sorted(out.glob("[0-9][0-9].png"))]
    Image.fromarray(np.concatenate(strips)).save(out / "sheet.png")
    print(
        "sheet.png, from the left: original, reference, truth, region, original inverted, reference aligned, "
        + ", ".join(names[:-1])
    )


def as_bytes(picture: Tensor) -> NDArray[np.uint8]:
    """(1, 3, H, W) -1..1 -> (H, W, 3)."""
    plane = (picture[0].permute(1, 2, 0).float().cpu().numpy() + 1) * 127.5
    return np.asarray(plane.round().clip(0, 255), np.uint8)


@dataclass(frozen=True)
class HeldOut:
    """A photo of a head that never trained."""

    path: Path
    alpha: NDArray[np.float32]
    """(400, 400) 0..1 all that is drawn."""
    head: NDArray[np.float32]
    """(400, 400) 0..1 without clothes, which are no part of a head."""
    camera: Camera
    yaw: float


def held_out(number: int, seed: int, out: Path) -> HeldOut:
    """Draw one into a folder."""
    rng = np.random.default_rng([seed, number])
    wardrobe = Wardrobe(PACKS / "makehuman_head")
    source: Any = wardrobe if number % 2 == 0 else IctHeads(PACKS / "ict_facekit", wardrobe)
    yaw, elevation = float(rng.normal(0, 16)), float(rng.normal(0, 7))
    label = label_of(orbit_pose(yaw, elevation), intrinsics(FOCAL * 0.55))
    camera = camera_of(label, 400, f"head_{number:02d}.png")
    made = draw(source.layers(source.traits(rng)), camera, random_light(rng), EMPHASIS)
    alpha = made.rgba[..., 3:].astype(np.float32) / 255
    behind = backgrounds(1, torch.Generator().manual_seed(seed + number))
    behind = F.interpolate(behind, size=(400, 400), mode="bilinear")[0].permute(1, 2, 0).numpy()
    rgb = made.rgba[..., :3] * alpha + 255 * behind * (1 - alpha)
    path = out / f"head_{number:02d}.png"
    Image.fromarray(rgb.astype(np.uint8)).save(path)
    return HeldOut(path, alpha[..., 0], alpha[..., 0] * (made.labels != 0), camera, yaw)


def one_inversion(job: tuple[int, int, str, str, Path]) -> None:
    """Work off one head into its files, unless they are there."""
    number, seed, model, quality, out = job
    told = out / f"head_{number:02d}.json"
    if told.is_file():
        return
    torch.set_num_threads(1)
    opened = find_head_model(model).open(torch.device("cpu"))
    shown = held_out(number, seed, out)
    row: dict[str, Any] = {"yaw": shown.yaw}
    began = time.perf_counter()
    try:
        found = found_portrait(open_photos([shown.path])[0], opened)
    except Exception as error:  # noqa: BLE001 - a face that is not found is a row too
        told.write_text(json.dumps(row | {"error": str(error)}))
        return
    made = invert(opened, found, effort(quality, 0), pyramid_distance, out, Progress())
    row["seconds"] = time.perf_counter() - began
    side = opened.network.config.picture
    whole, head = (
        torch.from_numpy(crop_plane(plane, found.face, side))[None, None]
        for plane in (shown.alpha, shown.head)
    )
    crop = torch.from_numpy(found.crop).permute(2, 0, 1)[None] * 2 - 1
    before, picture = (
        seen(network, made.code.ws, made.code.label).picture.clamp(-1, 1)
        for network in (opened.network, made.network)
    )
    row["psnr"] = psnr(picture, crop, (head > 0.95).float())
    row["psnr_latent"] = psnr(before, crop, (head > 0.95).float())
    row["psnr_clothed"] = psnr(picture, crop, (whole > 0.95).float())
    solved = found.camera(made.code.label)
    true = shown.camera.cam_to_world[:3, :3]
    wrong = solved.cam_to_world[:3, :3].T @ true
    start = found.camera(found.portrait.label).cam_to_world[:3, :3].T @ true
    for name, turned in (("camera", wrong), ("before", start)):
        row[f"{name}_deg"] = float(angle_deg(turned))
        row[f"{name}_turned"] = Rotation.from_matrix(turned).as_rotvec(degrees=True).tolist()
    strip = [crop, picture, (picture + 1) * whole - 1]
    Image.fromarray(np.concatenate([as_bytes(p) for p in strip], 1)).save(out / f"strip_{number:02d}.png")
    told.write_text(json.dumps(row))


def run_inversion(options: argparse.Namespace) -> None:
    """Twenty heads, in several processes."""
    options.out.mkdir(parents=True, exist_ok=True)
    seed = options.seed or HELD_OUT
    jobs = [(n, seed, options.model, options.quality, options.out) for n in range(options.heads)]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        pool.map(one_inversion, jobs, chunksize=1)
    rows = [json.loads(path.read_text()) for path in sorted(options.out.glob("head_[0-9][0-9].json"))]
    good = [row for row in rows if "error" not in row]
    for number, row in enumerate(rows):
        if "error" in row:
            print(f"{number:2d} {row['error']}")
            continue
        print(
            f"{number:2d} {row['psnr']:5.1f} dB ({row['psnr_latent']:5.1f} before tuning), camera {row['camera_deg']:4.1f} degrees "
            f"(before the fit {row['before_deg']:4.1f}, yaw {row['yaw']:5.1f}), {row['seconds']:.0f} s"
        )
    mean = {
        key: float(np.mean([row[key] for row in good]))
        for key in ("psnr", "psnr_clothed", "camera_deg", "seconds")
    }
    median = float(np.median([row["camera_deg"] for row in good]))
    within = sum(row["camera_deg"] <= 3 for row in good)
    print(
        f"{len(good)} of {len(rows)} heads: {mean['psnr']:.1f} dB on the head (target 24; {mean['psnr_clothed']:.1f} with clothes), camera {mean['camera_deg']:.1f} degrees "
        f"mean, {median:.1f} median, {within} within 3 (target: all), {mean['seconds']:.0f} s each with {options.jobs} at a time"
    )
    strips = [np.asarray(Image.open(path)) for path in sorted(options.out.glob("strip_*.png"))]
    half = (len(strips) + 1) // 2
    columns = [np.concatenate(strips[i : i + half]) for i in (0, half) if strips[i : i + half]]
    height = max(len(column) for column in columns)
    padded = [np.pad(c, ((0, height - len(c)), (0, 0), (0, 0))) for c in columns]
    Image.fromarray(np.concatenate(padded, 1)[::2, ::2]).save(options.out / "sheet.png")


def run_portraits(options: argparse.Namespace) -> None:
    """Photos and scans through the whole verb: photo's crop, the head's picture, the mesh from three sides."""
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for path in options.photos:
        if path.suffix == ".glb":
            path = scan_photo(path, options.out, yaw=10.0)
        out = options.out / path.stem
        settings = {"model": options.model, "quality": options.quality, "texture_size": 1024}
        began = time.perf_counter()
        try:
            execute(Request("head_invert", (str(path),), settings, str(out)), Progress(), PIPELINES)
        except Exception as error:  # noqa: BLE001 - the sheet shows what can be shown
            print(f"{path.name}: {error}")
            continue
        result = read_result(out)
        numbers = {
            key: result.metrics[key] for key in ("head_psnr", "silhouette_iou", "photo_psnr", "height_m")
        }
        print(f"{path.name}: {numbers}, {time.perf_counter() - began:.0f} s")
        rows.append(np.concatenate(cells(out), 1))
    if rows:
        Image.fromarray(np.concatenate(rows)).save(options.out / "sheet.png")


def cells(folder: Path, side: int = 256) -> list[NDArray[np.uint8]]:
    """The crop, and the mesh from its camera, the left, the right and behind."""
    mesh = read_mesh(folder / "mesh.npz")
    with Image.open(folder / "base_color.png") as image:
        texture = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255)
    with Image.open(folder / "picture.png") as image:
        out = [np.asarray(image.convert("RGB").resize((side, side)))]
    for yaw in (0, 45, -45, 180):
        camera = camera_of(label_of(orbit_pose(yaw, 5), intrinsics(FOCAL * 0.7)), side)
        rgb, alpha = render_textured(mesh, texture, camera)
        shown = rgb * alpha[..., None] + 0.22 * (1 - alpha[..., None])
        out.append((shown.clamp(0, 1).numpy() * 255 + 0.5).astype(np.uint8))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_subparsers(dest="what", required=True)
    for name, run in (("pairs", run_pairs), ("inversion", run_inversion), ("portraits", run_portraits)):
        one = what.add_parser(name)
        one.set_defaults(run=run)
        one.add_argument("--out", type=Path, default=Path("build/bench_blending") / name)
        one.add_argument("--model", default="", help="an EG3D generator (the bundled one)")
        one.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--quality", default="normal")
        if name == "pairs":
            one.add_argument("--pairs", type=int, default=50)
            one.add_argument("--minutes", type=float, default=600)
        if name == "inversion":
            one.add_argument("--heads", type=int, default=20)
        if name == "portraits":
            one.add_argument("photos", type=Path, nargs="+")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
