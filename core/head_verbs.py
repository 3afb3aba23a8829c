# SPDX-License-Identifier: GPL-3.0-or-later
"""`head sample|invert|blend` on the command line: arguments, and the request for the engine. Standard library only."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from .errors import InputError
from .head_settings import ALIGNMENTS, REGIONS, BlendSettings, HeadSettings, InvertSettings, SampleSettings
from .jobs.request import Request

ACTIONS: dict[str, type[HeadSettings]] = {
    "sample": SampleSettings,
    "invert": InvertSettings,
    "blend": BlendSettings,
}
FILES = ("model", "mask", "begin", "interpolate")
"""Settings that may be paths."""


def add_parser(verb: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """The three actions."""
    actions = verb.add_subparsers(dest="action", required=True, metavar="ACTION")
    sample = actions.add_parser("sample", parents=[common], allow_abbrev=False, help="a head from a seed")
    _add_shared(sample)
    sample.add_argument(
        "--truncation", type=float, default=SampleSettings.truncation, metavar="T",
        help="0: the mean head, 1: as different as they come (0.7)",
    )  # fmt: skip
    sample.add_argument(
        "--interpolate",
        default="",
        metavar="N|RESULT",
        help="a second head to mix with: its seed or its result",
    )
    sample.add_argument("--share", type=float, default=0.5, metavar="S", help="of the second head (0.5)")
    sample.add_argument(
        "--from", dest="begin", default="", metavar="RESULT", help="a head in place of the seed"
    )
    sample.add_argument(
        "--gallery", type=int, default=0, metavar="COUNT", help="previews of so many seeds, no mesh"
    )
    sample.add_argument(
        "--yaw", type=float, default=0.0, metavar="DEG", help="where the head's camera stands; 0: in front"
    )
    sample.add_argument(
        "--elevation", type=float, default=0.0, metavar="DEG", help="from how high it looks down"
    )
    sample.add_argument(
        "--orbit", type=int, default=0, metavar="COUNT", help="previews from so many sides, no mesh"
    )
    invert = actions.add_parser("invert", parents=[common], allow_abbrev=False, help="a head from a portrait")
    invert.add_argument("inputs", nargs="*", metavar="PHOTO", help="one portrait")
    invert.add_argument("--mask", default="", metavar="FILE", help="white on the head, as large as the photo")
    _add_shared(invert)
    _add_fit(invert)
    blend = actions.add_parser(
        "blend", parents=[common], allow_abbrev=False, help="a part of one head on another"
    )
    blend.add_argument(
        "inputs",
        nargs="*",
        metavar="ORIGINAL REFERENCE",
        help="photos, or results of head sample, invert, blend",
    )
    _add_shared(blend)
    _add_fit(blend)
    blend.add_argument(
        "--region", default="", choices=("", *REGIONS), metavar="PART", help=", ".join(REGIONS)
    )
    blend.add_argument(
        "--mask",
        default="",
        metavar="FILE",
        help="in place of a part: white on the region, over the original's picture",
    )
    blend.add_argument(
        "--density", type=float, default=1.0, metavar="W", help="weight of the shapes (1); 0: pictures alone"
    )
    blend.add_argument(
        "--colour", type=float, default=1.0, metavar="W", help="weight of the reference's colours (1)"
    )
    kinds = blend.add_mutually_exclusive_group()
    kinds.add_argument(
        "--shape-only", action="store_true", help="the reference's shape in the original's colours"
    )
    kinds.add_argument(
        "--colour-only", action="store_true", help="the reference's colours on the original's shape"
    )
    blend.add_argument("--poisson", action="store_true", help="finish the picture by a seamless clone")
    blend.add_argument(
        "--align", choices=ALIGNMENTS, default="head",
        help="head: the part where it belongs on the original's head; camera: the reference from the original's camera; "
        "part: moved and scaled onto the part too",
    )  # fmt: skip


def request(options: argparse.Namespace, absolute: Callable[[str | None], str]) -> Request:
    """The request of a parsed command line.

    Args:
        options: of `add_parser`.
        absolute: makes a path absolute; empty stays empty.

    Raises:
        InputError: NO_IMAGE, ONE_PICTURE, TWO_HEADS, NOT_FOUND, BAD_SETTING, REGION_OR_MASK.
    """
    kind = ACTIONS[options.action]
    inputs = tuple(absolute(path) for path in getattr(options, "inputs", ()))
    check_count(options.action, len(inputs))
    for path in inputs:
        if not Path(path).exists():
            raise InputError("NOT_FOUND", f"{path} does not exist.", "Check the path.")
    names = {item.name for item in fields(kind)}
    chosen: dict[str, Any] = {name: value for name, value in vars(options).items() if name in names}
    for name in FILES:
        text = chosen.get(name, "")
        if text and Path(text).exists():
            chosen[name] = absolute(text)
        elif text and name in ("mask", "begin"):
            raise InputError("NOT_FOUND", f"{text} does not exist.", "Check the path.")
    if "perceptual" in chosen:
        chosen["perceptual"] = [absolute(path) for path in chosen["perceptual"]]
    settings = kind.from_json(chosen).as_json()
    return Request(
        f"head_{options.action}", inputs, settings, absolute(options.out), absolute(options.glb), absolute(options.preview)
    )  # fmt: skip


def check_count(action: str, count: int) -> None:
    """How many inputs an action takes.

    Raises:
        InputError: NO_IMAGE, ONE_PICTURE, TWO_HEADS.
    """
    if action == "invert" and count == 0:
        raise InputError("NO_IMAGE", "There is no portrait.", "Name one photo of a face.")
    if action == "invert" and count > 1:
        raise InputError(
            "ONE_PICTURE", f"A head is made of one portrait; {count} were given.", "Name one photo."
        )
    if action == "blend" and count != 2:
        raise InputError(
            "TWO_HEADS",
            f"A blend takes an original and a reference; {count} were given.",
            "Name two photos or results of heads, the original first.",
        )


def _add_shared(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--out", required=True, metavar="DIR", help="the result's folder; an older result there is replaced"
    )
    action.add_argument(
        "--model", default="", metavar="NAME|FILE", help="an EG3D generator (the bundled one)"
    )
    action.add_argument(
        "--resolution", type=int, default=0, metavar="N", help="cells along the box (by quality)"
    )
    action.add_argument(
        "--face-budget", type=int, default=0, metavar="N", help="triangles at most (by quality)"
    )
    action.add_argument("--texture-size", type=int, default=2048, metavar="PX", help="256 .. 8192 (2048)")


def _add_fit(action: argparse.ArgumentParser) -> None:
    action.add_argument("--steps", type=int, default=0, metavar="N", help="of the latent (by quality)")
    action.add_argument(
        "--perceptual", nargs="+", default=(), metavar="FILE",
        help="weights of LPIPS (VGG16 and its linear layers); else a pyramid of colours and gradients",
    )  # fmt: skip
