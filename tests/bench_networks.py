# SPDX-License-Identifier: GPL-3.0-or-later
"""Published networks at full size: `python -m tests.bench_networks [ROW ...] [--runs N]`.

One line a row: wall seconds (best and median of the runs after a warm-up), processor seconds of the best run, peak
resident memory, what was found besides, and whether the target holds. Every row runs in a process of its own under the
engine's allocator setting and thread count (`core.jobs.tuning`; an OMP_NUM_THREADS that is set stays). Weights are random:
He's normal distribution for layers, so that values keep their size through the network; batch norms get the statistics
of a first pass. Reduced precision is torch's autocast to bfloat16 (Zero123: `UNet.mixed`); its difference is
the root mean square of the difference over that of the float32 result.
"""

from __future__ import annotations

import argparse
import json
import math
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from maquette.core.jobs.memory import MemoryWatch
from maquette.core.jobs.tuning import engine_environment
from maquette.core.models.campari import generator as campari
from maquette.core.models.campari.cameras import cameras_from
from maquette.core.models.giraffe import generator as giraffe
from maquette.core.models.giraffe.priors import PRIORS, random_codes
from maquette.core.models.graf import generator as graf
from maquette.core.models.graf.cameras import pose_at
from maquette.core.models.nerf.network import NerfConfig, NerfMlp
from maquette.core.models.onet import network as onet
from maquette.core.models.onet.field import OnetField
from maquette.core.models.sparseneus.cameras import all_views, in_cube
from maquette.core.models.sparseneus.model import SparseNeuS
from maquette.core.models.zero123.layouts import public_shapes
from maquette.core.models.zero123.model import Condition, Zero123
from maquette.core.models.zero123.unet import UNet
from maquette.core.surface.extract import ExtractSettings, extract_surface
from maquette.core.surface.mise import mise_values
from maquette.core.weights.networks import load_network
from torch import Tensor, nn

from .reference.dense_mise import dense_mise

GIB = 1 << 30


@dataclass
class Measured:
    """What a row found, in its own process."""

    seconds: list[float]
    cpu: float = 0.0
    """Processor seconds of the fastest run, all threads."""
    remark: str = ""
    good: bool = True
    """Everything besides time and memory is as it should be."""
    peak_bytes: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    run: Callable[[int], Measured]
    seconds: float = math.inf
    """Target."""
    gib: float = math.inf
    """Target."""


def timed(work: Callable[[], Any], runs: int, warm: bool = True) -> tuple[Any, Measured]:
    """The last result and the times of some runs."""
    made = work() if warm else None
    found = Measured([])
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        made = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found.cpu = cpu if wall < min(found.seconds, default=math.inf) else found.cpu
        found.seconds.append(wall)
    return made, found


def filled(network: nn.Module, seed: int = 0) -> nn.Module:
    """He's normal distribution for matrices and kernels, small biases; norms and buffers as they are made."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            if weight.ndim > 1:
                fan = math.prod(weight.shape[1:])
                weight.data.normal_(0.0, math.sqrt(2.0 / fan), generator=generator)
            elif name == "bias" and not isinstance(module, nn.GroupNorm | nn.LayerNorm):
                weight.data.normal_(0.0, 0.1, generator=generator)
    return network.eval().requires_grad_(False)


def compared(work: Callable[[], Tensor], runs: int, reduced: bool) -> Measured:
    """Time of some work; reduced precision is set against float32."""
    context = torch.autocast("cpu", torch.bfloat16) if reduced else nullcontext()
    exact = work() if reduced else None
    with context:
        result, found = timed(work, runs)
    found.remark = f"mean {float(result.mean()):.3f}, deviation {float(result.std()):.3f}"
    if exact is not None:
        judge(found, result, exact)
    return found


def judge(found: Measured, result: Tensor, exact: Tensor) -> None:
    """Note how far a result of reduced precision is from the exact one; under 1 % is good."""
    gap = (result - exact).float()
    share = float(gap.square().mean().sqrt() / exact.float().square().mean().sqrt())
    found.good = share < 0.01
    found.remark = (
        f"differs by {100 * share:.2f} % (rms), at most {float(gap.abs().max()):.3f}; " + found.remark
    )


def graf_picture(runs: int, reduced: bool = False) -> Measured:
    """Cars of 128 x 128 pixels, 64 samples a ray."""
    network = filled(NerfMlp(NerfConfig(graf.POSITION_DIM + 128, graf.VIEW_DIM + 128)))
    data = graf.PUBLISHED["carla"]
    pose, z = (
        pose_at(40.0, 60.0, 10.0).float(),
        torch.randn(1, 256, generator=torch.Generator().manual_seed(1)),
    )
    size = (128, 128)
    return compared(
        lambda: graf.render(network, pose, z, data, size, graf.focal_of(128, data.fov_deg)).rgb, runs, reduced
    )


def campari_picture(runs: int) -> Measured:
    """Faces of 128 x 128 pixels, 64 samples of the foreground and 16 of the background."""
    network = filled(campari.Campari(campari.PUBLISHED["celeba"]))
    z = torch.randn(2, 256, generator=torch.Generator().manual_seed(1))
    cameras = cameras_from(torch.tensor([[0.1, 0.1, 0.2, 0.1, 0.0]]))
    return compared(lambda: network(cameras, z[:1], z[1:], 128).rgb, runs, False)


def giraffe_picture(runs: int) -> Measured:
    """Cars of 256 x 256 pixels, one box."""
    prior = PRIORS["256res/cars_256"]
    network = filled(giraffe.Giraffe(giraffe.PUBLISHED["256res/cars_256"]))
    codes = giraffe.Codes(*random_codes((1, 1), 256, 128, 0))
    boxes, camera = prior.boxes_at([0.0], [(0.5, 0.5, 0.5)], [0.2]), prior.camera_at()
    return compared(lambda: network(codes, boxes, camera), 3 * runs, False)


def onet_points(runs: int, reduced: bool = False) -> Measured:
    """One million points of the published picture model, decoder only."""
    config = onet.PUBLISHED["onet_img"]
    network = filled(onet.OccupancyNetwork(config))
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(1_000_000, 3, generator=generator) - 0.5
    code = torch.randn(1, config.c_dim, generator=generator)
    with_statistics(network.decoder, lambda: network.decoder(points[None, :20_000], torch.zeros(1, 0), code))
    settings = {"box": [[-0.55] * 3, [0.55] * 3], "level": config.threshold}
    answered = OnetField(network.decoder, {"z": torch.zeros(1, 0), "c": code}, settings)
    return compared(lambda: answered.geometry(points), runs, reduced)


def with_statistics(network: nn.Module, work: Callable[[], Any]) -> None:
    """Give every batch norm the statistics of one pass."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 1.0
    network.train()
    work()
    network.eval()


def one2345_inputs() -> tuple[SparseNeuS, Tensor, Tensor, Tensor]:
    """Full-size networks, 32 pictures of a ball before white, and their cameras."""
    model = filled(SparseNeuS())
    cameras = in_cube(all_views(90).poses, 0, [0, *range(8, 40)])
    size, generator = 256, torch.Generator().manual_seed(1)
    line = torch.linspace(-1.0, 1.0, size)
    ball = ((line[:, None].square() + line.square()) < 0.4).float()
    noise = torch.nn.functional.interpolate(
        torch.rand(32, 3, 16, 16, generator=generator), size=(size, size), mode="bilinear"
    )
    images = 1.0 - ball * (1.0 - noise)
    centres = torch.from_numpy(cameras.cam_to_world[8:, :3, 3]).float()
    return model, images, torch.from_numpy(cameras.affine[8:]).float(), centres


def volume(runs: int) -> Measured:
    """Features of 32 pictures, cost volume of 96^3, sparse network."""
    model, *inputs = one2345_inputs()
    made, found = timed(lambda: model.reconstruct(*inputs), runs)
    found.remark = f"{int(made.mask.sum())} of {made.mask.numel()} voxels"
    return found


def coloured_mesh(runs: int) -> Measured:
    """The same field at 256^3: surface and colours of its vertices from 32 pictures."""
    model, *inputs = one2345_inputs()
    made = model.reconstruct(*inputs)
    line = torch.linspace(-1.0, 1.0, 96)
    values = made.geometry(torch.cartesian_prod(line, line, line))[made.mask.flatten() > 0]
    level = float(
        values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))[:500_000]].quantile(
            0.005
        )
    )
    settings = ExtractSettings(resolution=256, level=level)

    def work() -> tuple[Any, Tensor]:
        mesh = extract_surface(made, settings)
        return mesh, made.appearance(torch.from_numpy(mesh.vertices))

    (mesh, colours), found = timed(work, runs)
    found.good = bool(torch.isfinite(colours).all()) and len(mesh.faces) > 1000
    found.remark = f"{len(mesh.vertices)} vertices, {len(mesh.faces)} faces"
    return found


def zero123_step(runs: int, reduced: bool) -> Measured:
    """One guided step of one view, a U-Net call with a batch of two."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Zero123()
    del model.vae, model.clip, model.cc_projection
    model.unet = UNet().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    z, latent = (torch.randn(1, 4, 32, 32, generator=generator) for _ in range(2))
    known = Condition(torch.randn(1, 1, 768, generator=generator), latent)
    t = torch.tensor([501])
    if not reduced:
        result, found = timed(lambda: model.guided_noise(z, t, known, 3.0), runs)
        return found
    exact = model.guided_noise(z, t, known, 3.0)
    model.unet.mixed(torch.bfloat16)
    result, found = timed(lambda: model.guided_noise(z, t, known, 3.0), runs)
    judge(found, result, exact)
    return found


def zero123_load(runs: int) -> Measured:
    """A file of the original layout with the moving average beside the weights, loaded in float16."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "105000.ckpt"
        write_zero123(path)
        with MemoryWatch() as watch:
            (_, network), found = timed(lambda: load_network(path, torch.float16), 1, warm=False)
        found.peak_bytes = watch.peak_bytes
        numbers = sum(p.numel() for p in network.parameters())
        kinds = {str(p.dtype).removeprefix("torch.") for p in network.parameters()}
        found.remark = (
            f"{numbers:,} weights in {', '.join(kinds)}, file of {path.stat().st_size / 1e9:.1f} GB"
        )
        found.good = kinds == {"float16"}
    return found


def mise_512(runs: int) -> Measured:
    """A ball at 64 with 3 steps: the evaluated points against a dense reading of the published rule."""
    with MemoryWatch() as watch:
        octree, found = timed(lambda: mise_values(ball, 64, 3, LEVEL, 1.1), 1, warm=False)
    found.peak_bytes = watch.peak_bytes
    rounds, known = dense_mise(ball, 64, 3, LEVEL, 1.1)
    found.good = rounds == octree.points_per_round and bool(np.array_equal(known, octree.known()[0]))
    found.remark = f"rounds {octree.points_per_round}: {'equal to' if found.good else 'NOT'} the rule's"
    return found


def mise_1024(runs: int) -> Measured:
    """The same ball at 1024^3."""
    octree, found = timed(lambda: mise_values(ball, 64, 4, LEVEL, 1.1), 1, warm=False)
    found.remark = f"rounds {octree.points_per_round}, {len(octree.known()[0]) / 1025**3:.2%} of the grid"
    return found


LEVEL = math.log(0.2) - math.log(0.8)


def ball(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The sphere of the fixtures, (N, 3) -> (N,)."""
    return 12.0 * (0.37 - np.sqrt(np.einsum("ij,ij->i", points, points)))


ROWS = {
    "graf": Row(graf_picture, 7.5),
    "graf-bf16": Row(lambda runs: graf_picture(runs, True), 3.5),
    "campari": Row(campari_picture, 2.0),
    "giraffe": Row(giraffe_picture, 0.08),
    "onet": Row(onet_points, 6.5),
    "onet-bf16": Row(lambda runs: onet_points(runs, True), 3.0),
    "volume": Row(volume, 6.0, 3.0),
    "mesh": Row(coloured_mesh, 8.0),
    "zero123": Row(lambda runs: zero123_step(runs, False), 1.2),
    "zero123-bf16": Row(lambda runs: zero123_step(runs, True), 1.2),
    "zero123-load": Row(zero123_load, gib=3.0),
    "mise-512": Row(mise_512),
    "mise-1024": Row(mise_1024, gib=4.0),
}


def write_zero123(path: Path) -> None:
    """A checkpoint of the original layout in float32 with the moving average of its U-Net, as published.

    The U-Net's plain copy, which is not read, is left as a hole in the file.
    """
    with torch.device("meta"):
        shapes = public_shapes(Zero123())
    plain = [name for name in shapes if name.startswith("model.diffusion_model.")]
    shapes |= {"model_ema." + name.removeprefix("model.").replace(".", ""): shapes[name] for name in plain}
    with (
        torch.serialization.skip_data()
    ):  # room in the file only: the memory of these tensors is never touched
        torch.save(
            {"state_dict": {name: torch.empty(size) for name, size in shapes.items()}, "global_step": 105000},
            path,
        )
    numbers = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) * 0.02
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
        state = torch.load(path, mmap=True, weights_only=True)["state_dict"]
        for name in shapes.keys() - plain:
            for part in state[name].view(-1).split(len(numbers)):
                part.copy_(numbers[: len(part)])


def in_own_process(name: str, runs: int) -> Measured:
    """Run one row with a fresh allocator and nothing else in memory."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-m", "tests.bench_networks", name, "--runs", str(runs), "--here"]
    done = subprocess.run(
        command, env=engine_environment(keep), stdout=subprocess.PIPE, text=True, check=True
    )
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def here(name: str, runs: int) -> Measured:
    """Run one row in this process."""
    with torch.no_grad(), MemoryWatch() as watch:
        found = ROWS[name].run(runs)
        found.peak_bytes = found.peak_bytes or watch.peak_bytes
    return found


def line(name: str, found: Measured) -> str:
    """One row of the table."""
    row, best, gib = ROWS[name], min(found.seconds), found.peak_bytes / GIB
    good = found.good and best <= row.seconds and gib <= row.gib
    target = [f"<= {row.seconds:g} s"] * (row.seconds < math.inf) + [f"<= {row.gib:g} GiB"] * (
        row.gib < math.inf
    )
    return (
        f"{name:14}{best:8.3f} s (median {statistics.median(found.seconds):.3f}, processor {found.cpu:.2f})"
        f"{gib:7.2f} GiB  {'ok  ' if good else 'MISS'} {', '.join(target):22} {found.remark}"
    )


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(prog="python -m tests.bench_networks", description=__doc__)
    arguments.add_argument("rows", nargs="*", choices=[[], *ROWS], metavar="ROW", help=", ".join(ROWS))
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.here:
        print(json.dumps(asdict(here(options.rows[0], options.runs))))
        return
    for name in options.rows or ROWS:
        print(line(name, in_own_process(name, options.runs)), flush=True)


if __name__ == "__main__":
    main()
