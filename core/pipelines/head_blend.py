# SPDX-License-Identifier: GPL-3.0-or-later
"""Verb `head_blend`: a part of one head on another, in 3D (Kim et al. 2023): invert, align, optimise the latent, finish, mesh."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..blending.alignment import Placement, part_warp
from ..blending.blend import BlendEffort, blend, seen, target_of
from ..blending.details import Details, moved_by_depth, with_details
from ..blending.losses import BlendWeights, Target
from ..blending.masks import RING, RING_USUAL
from ..blending.poisson import seamless_clone, with_ring
from ..errors import InputError
from ..fit.inversion import InversionSettings, Perceptual, Pivot, Portrait, tune
from ..fit.picture_distance import psnr
from ..head_settings import BlendSettings
from ..jobs.request import Request
from ..models.eg3d.generator import Eg3d
from ..progress import Progress
from ..results import Result
from .field_to_result import pick_device
from .head_code import HeadCode, code_of, portrait_of, read_code
from .head_fit import distance, effort, on_device, shower, told_slow
from .head_invert import one_photo, pivot_of
from .head_model import OpenModel, find_head_model
from .head_regions import checked_region, painted_mask, part_mask, parts_of, region_mask
from .head_result import PLAN as FINISH_PLAN
from .head_result import finish, made_head, own_camera
from .head_wanted import Wanted, as_published, wanted_of
from .portrait import FoundPortrait, found_portrait

PLAN = {"heads": 30.0, "tuning": 25.0, "align": 1.0, "blend": 40.0, **FINISH_PLAN}
STEPS = {"draft": 40, "normal": 90, "high": 200}
"""Of the blend, by quality."""
HAIR_COLOUR = 3.0
"""Of hair the reference's colours count so many times more, as the published scripts intend."""
SCALE = 0.03
"""Of the density terms with our generators, whose raw densities reach 300; those of published ones stay below 30."""


@dataclass(frozen=True)
class Source:
    """Original or reference."""

    name: str
    pivot: Pivot
    code: HeadCode | None
    """As stored; None: just inverted."""
    found: FoundPortrait | None = None
    made_up: bool = False
    """It has no photo: its generator's picture stands for one."""


@dataclass(frozen=True)
class Blended:
    """What was made."""

    code: HeadCode
    before: Tensor
    """(1, 3, P, P) -1..1."""
    reference: Tensor
    """The aligned reference."""
    after: Tensor
    finished: Tensor
    """After the seamless clone, or `after`."""
    mask: Tensor
    """(1, 1, P, P)"""


def run(request: Request, folder: Path, progress: Progress) -> Result:
    """A blend of two heads to a textured head.

    Args:
        request: original and reference, photos or results of heads; settings are those of `BlendSettings`.
        folder: receives the files of the Result, and before.png, reference.png, after.png, region.png.
        progress: plan and stages are set here.

    Raises:
        InputError: TWO_HEADS, HEAD_OTHER_MODEL, NOT_A_HEAD, REGION_NOT_SEEN, HEAD_MASK_SIZE, HEAD_MASK_EMPTY,
            MASK_OUTSIDE_HEAD; those of `portrait.found_portrait`. MissingError: HEAD_MODEL_MISSING.
        FailedError: NO_SURFACE. Cancelled.
    """
    settings = BlendSettings.from_json(request.settings)
    if len(request.inputs) != 2:
        raise InputError(
            "TWO_HEADS",
            f"A blend takes an original and a reference; {len(request.inputs)} were given.",
            "Choose two photos or heads.",
        )
    codes = [read_code(Path(path)) if Path(path).is_dir() else None for path in request.inputs]
    stored = next((code for code in codes if code is not None), None)
    opened = find_head_model(settings.model or (stored.model if stored else "")).open(
        pick_device(settings.device)
    )
    for code in codes:
        if code is not None:
            code.check(opened.network)
    progress.set_plan(PLAN)
    compare, fit = distance(settings.perceptual), effort(settings.quality, settings.steps)
    told_slow(opened, progress)
    with progress.stage("heads"):
        pairs = zip(request.inputs, codes, strict=True)
        sources = [_source(Path(path), code, opened, fit, compare, progress, folder) for path, code in pairs]
    with progress.stage("tuning"):
        network = shared_network(opened, sources, fit, compare, progress)
    made = blended(opened, network, sources, settings, compare, folder, progress)
    result = Result(f"{sources[0].name} with {settings.region or 'part'} of {sources[1].name}", "head_blend")
    head = made_head(opened, made.code)
    result.cameras = [own_camera(head, folder, progress, "blend")]
    result.active_camera = result.cameras[0].source.name
    _write(made, folder)
    finish(head, result, folder, settings, progress)
    result.metrics |= {
        "outside_psnr": round(psnr(made.finished, made.before, 1 - made.mask), 2),
        "compared_by": "LPIPS" if settings.perceptual else "colours and gradients at five scales",
        "original": request.inputs[0],
        "reference": request.inputs[1],
    }
    return result


def _source(
    path: Path,
    code: HeadCode | None,
    opened: OpenModel,
    fit: InversionSettings,
    compare: Perceptual,
    progress: Progress,
    folder: Path,
) -> Source:
    """A stored head as it is; a photo inverted, without tuning."""
    if code is None:
        found = found_portrait(one_photo((str(path),), progress), opened)
        pivot = pivot_of(opened, found, fit, compare, progress, folder)
        return Source(path.stem, pivot, None, found)
    ws, label = code.ws.to(opened.device), code.label.to(opened.device)
    portrait = portrait_of(code)
    if portrait is not None:
        return Source(path.name, Pivot(on_device(portrait, opened.device), ws, label), code)
    view = seen(code.tuned(opened.network), ws, label)
    outline = torch.nn.functional.interpolate(
        view.rendered.opacity, size=view.picture.shape[2:], mode="bilinear"
    )
    mask = outline.clamp(0, 1) if opened.bare else None
    return Source(path.name, Pivot(Portrait(view.picture, label, mask), ws, label), code, made_up=True)


def shared_network(
    opened: OpenModel,
    sources: list[Source],
    fit: InversionSettings,
    compare: Perceptual,
    progress: Progress,
) -> Eg3d:
    """One generator for both: as loaded where neither was tuned, the only tuned one, else tuned to both together."""
    kept = [source.code for source in sources]
    needs = [code is None or bool(code.delta) for code in kept]
    if not any(needs):
        return opened.network
    if sum(needs) == 1:
        only = kept[needs.index(True)]
        if only is not None:
            return only.tuned(opened.network)
    pivots = [source.pivot for source in sources]
    return tune(opened.network, pivots, opened.latent, fit, compare, progress)


def weights_of(settings: BlendSettings, opened: OpenModel) -> BlendWeights:
    """The factors of the loss for an artist's choices."""
    colour = settings.colour * (HAIR_COLOUR if settings.region == "hair" else 1.0)
    return BlendWeights(
        colour=0.0 if settings.shape_only else colour,
        density=settings.density * (SCALE if opened.bare else 1.0),
        reference_density=0.0 if settings.colour_only else 1.0,
    )


def blended(
    opened: OpenModel,
    network: Eg3d,
    sources: list[Source],
    settings: BlendSettings,
    compare: Perceptual,
    folder: Path,
    progress: Progress,
) -> Blended:
    """Stages `align` and `blend`."""
    original, reference = (source.pivot for source in sources)
    label = original.label
    with progress.stage("align"):
        before = _photo_of(sources[0], network)
        view = seen(network, original.ws, label)
        parts, wanted = parts_of(before, label), None
        if settings.region:
            own = part_mask(parts, settings.region)
        else:
            own = painted_mask(Path(settings.mask), before.shape[-1], sources[0].found)
        if settings.align == "head":
            heads, known = (original.ws, reference.ws), _as_mask(own, before)
            wanted = wanted_of(opened, network, heads, label, before, known, settings.region, _take(settings))
            place = wanted.place
        else:
            place = Placement(reference.label if settings.align == "none" else label)
        other = place.seen(network, reference.ws)
        both = parts, parts_of(other.picture, place.label)
        region = own
        if settings.region:
            region = region_mask(*both, settings.region, (sources[0].name, sources[1].name))
        covers = [view.rendered.opacity, other.rendered.opacity]
        mask = checked_region(region, covers, Path(settings.mask).name or settings.region).to(label.device)
        if settings.align == "part":
            warp = _warp(network, original, reference, both, settings, mask)
            if warp is None:
                progress.warning(
                    "The part could not be laid over the original's; it stays where the camera shows it."
                )
            else:
                place = Placement(label, warp)
        wanted = wanted or as_published(reference.ws, place, original.ws)
        photo = reference.portrait.picture if settings.align == "none" and not sources[1].made_up else None
    goal = partial(target_for, network, original, before, mask, wanted, photo)
    chosen = BlendEffort(settings.steps or STEPS[settings.quality], weights=weights_of(settings, opened))
    with progress.stage("blend"):
        ws = blend(network, wanted.start, label, goal, chosen, compare, progress, shower(folder, progress))
        after = seen(network, ws, label).picture
        if not (settings.shape_only or settings.colour_only or settings.align == "none"):
            after = detailed(network, after, mask, before, sources, wanted)
    picture = wanted.seen(network)[0] if photo is None else photo
    finished = cloned(after, before, mask, settings.region) if settings.poisson else after
    code = code_of(opened, ws, label, network)
    return Blended(code, before, picture, after, finished, mask)


def target_for(
    network: Eg3d,
    original: Pivot,
    before: Tensor,
    mask: Tensor,
    wanted: Wanted,
    photo: Tensor | None,
    resolution: int | None,
) -> Target:
    """What the blend should look like, at a resolution of the rays, or with pictures as the generator makes them.

    Args:
        network: tuned to both.
        original: its latent and camera.
        before: (1, 3, P, P) its picture.
        mask: (1, 1, P, P) the region.
        wanted: what should be in it.
        photo: (1, 3, P, P) in place of the reference's picture, for comparisons without alignment.
        resolution: see `blend.seen`.
    """
    first = seen(network, original.ws, original.label, None, resolution).rendered
    picture, sigma = wanted.seen(network, resolution)
    if photo is not None:
        picture = torch.nn.functional.interpolate(
            photo, size=picture.shape[2:], mode="bilinear", antialias=True
        )
    return target_of(mask, before, first, picture, sigma, resolution is not None)


def detailed(
    network: Eg3d, after: Tensor, mask: Tensor, before: Tensor, sources: list[Source], wanted: Wanted
) -> Tensor:
    """The blend's picture with what the generator could not draw of the photos (`blending.details`)."""
    original, reference = (source.pivot for source in sources)
    drawn = seen(network, original.ws, original.label).picture
    place = wanted.place
    here = place.seen(network, reference.ws)
    other = torch.zeros_like(drawn)
    if not sources[1].made_up:
        there = seen(network, reference.ws, reference.label)
        photo = reference.portrait.picture
        care = 1.0 if reference.portrait.care is None else reference.portrait.care
        other = wanted.tone * moved_by_depth(
            (photo - there.picture) * care,
            there.rendered,
            reference.label,
            here.rendered,
            place.label,
            place.back(network, reference.ws),
        )
    taken = mask if wanted.shown is None else mask * wanted.shown
    return with_details(
        after, taken, Details(before - drawn, drawn), Details(other, wanted.toned(here.picture))
    )


def cloned(after: Tensor, before: Tensor, mask: Tensor, region: str = "") -> Tensor:
    """The blend's picture cloned into the original's (B.7): region and a band around it from the blend, its gradients only."""
    side = before.shape[-1]
    reach = max(1, round(RING.get({"mouth": "lip"}.get(region, region), RING_USUAL) * side / 512))
    area = with_ring(_plane(mask)[..., 0] > 0.5, reach)
    out = seamless_clone(_plane(after), _plane(before), area)
    return torch.from_numpy(out).permute(2, 0, 1)[None].to(before)


def _warp(
    network: Eg3d,
    original: Pivot,
    reference: Pivot,
    parts: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    settings: BlendSettings,
    mask: Tensor,
) -> Tensor | None:
    """Local alignment of a part by name; a painted mask is the same region in both."""
    if settings.region:
        planes = [_as_mask(part_mask(p, settings.region), mask) for p in parts]
    else:
        planes = [mask, mask]
    return part_warp(network, original.ws, reference.ws, original.label, (planes[0], planes[1]))


def _as_mask(region: NDArray[np.bool_], like: Tensor) -> Tensor:
    """(P, P) -> (1, 1, P, P) 0 or 1."""
    return torch.from_numpy(region).to(like)[None, None]


def _photo_of(source: Source, network: Eg3d) -> Tensor:
    """(1, 3, P, P): the photo where there is one, as far as it counts; else the generator's picture."""
    if source.made_up:
        return seen(network, source.pivot.ws, source.pivot.label).picture
    portrait = source.pivot.portrait
    if portrait.care is None:
        return portrait.picture
    own = seen(network, source.pivot.ws, source.pivot.label).picture
    return portrait.picture * portrait.care + own * (1 - portrait.care)


def _take(settings: BlendSettings) -> str:
    return "shape" if settings.shape_only else "colour" if settings.colour_only else "both"


def _write(made: Blended, folder: Path) -> None:
    """Pictures for before and after, and the finished one behind the result's camera."""
    for name, picture in (
        ("before", made.before), ("reference", made.reference), ("after", made.finished),
    ):  # fmt: skip
        _save(_colours(picture), folder / f"{name}.png")
    _save(np.repeat(_plane(made.mask), 3, 2), folder / "region.png")
    _save(_colours(made.finished), folder / "views" / "blend.png")


def _colours(picture: Tensor) -> NDArray[np.float32]:
    return _plane(picture / 2 + 0.5)


def _save(plane: NDArray[np.float32], path: Path) -> None:
    Image.fromarray((plane * 255 + 0.5).clip(0, 255).astype(np.uint8)).save(path, compress_level=3)


def _plane(picture: Tensor) -> NDArray[np.float32]:
    """(1, C, H, W) -> (H, W, C)."""
    return picture[0].permute(1, 2, 0).float().cpu().numpy()
