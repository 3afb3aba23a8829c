# SPDX-License-Identifier: GPL-3.0-or-later
"""Faces in photos: where they are, EG3D's aligned crop and camera of each, and the parts of its pixels.

The network sees one square window at a time. Windows of several sizes cover the photo; those that claim a face are looked at
again around the place that they name, turned upright, until the place is steady (our choice: a cascade without anchors). Some
walk off to a steady place beside the face; there the network reads a window and its mirror image differently, which tells them.
A second network, the pose encoder, then says more exactly where the camera of a found face is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...errors import InputError
from ...types import Camera
from ..eg3d.cameras import FOCAL, RADIUS, intrinsics, label_of, look_at
from .parser import ANGLE, PARTS, SIDE, HeadParser
from .pose_reader import PoseReader

PIVOT = (0.0, 0.0, 0.2)
"""What the cameras of our heads look at, EG3D's frame."""
LOOKS, FILL = 5, 0.85
"""Times that a face is looked at again; share of the window that its crop then fills."""
STARTS = 24
"""Windows at most that are looked at again."""
DOUBTFUL = 10.0
"""Degrees of doubt from which it is no face where a surer one is found. Of rendered heads, cameras within 6 degrees had a doubt of 4 at most."""
UNSURE = 4.0
"""Degrees of doubt from which the pose encoder is believed only where it doubts less than the finder: 1.3 is usual. Of 576 rendered portraits, two
were beyond both, off by 8 degrees, by the finder 5."""
FILLS, TURNS = (0.78, 0.85, 0.93), (-6.0, 0.0, 6.0)
"""Of the windows that the pose encoder reads a found face in: the median of what they say is steadier than one."""
APART = 50.0
"""Degrees of doubt that a difference of one half window in place counts."""
LIKELY, FAIR, SURE = 0.15, 0.6, 0.75
"""Least score to look again; to be a face where no surer one is found and its doubt is below half of `DOUBTFUL` (hair over one eye leaves half
the proof; in 25 photos of anything but people, nothing came over 0.52); and to be one in any case."""
MIRROR = (1, -1, 1, 1, -1, -1, 1)
"""What the numbers of a view become, times these, when the picture is mirrored."""
EXPECTED = {"skin": 0.1, "eyes": 0.003, "nose": 0.01, "mouth": 0.008}
"""Shares of a window that a face's parts have at least, when the crop fills 0.85 of it; half of these is half a proof."""
WEIGHTS = Path(__file__).parents[2] / "weights/heads/parser.safetensors"
POSE_WEIGHTS = WEIGHTS.with_name("pose.safetensors")


@dataclass(frozen=True)
class Face:
    """A face in a photo; angles in degrees."""

    x: float
    """Pixels: middle of EG3D's crop, which is where `PIVOT` lies."""
    y: float
    side: float
    """Pixels of the crop's side."""
    roll: float
    """Positive: the head's top leans to the right of the photo."""
    yaw: float
    """Of the camera around the head, EG3D's way of counting; 0: from in front."""
    elevation: float
    score: float = 1.0
    """0..1: the network's presence times the `evidence` of its parts."""
    doubt: float = 0.0
    """Degrees: by how much the window and its mirror image say different things."""

    @property
    def label(self) -> NDArray[np.float32]:
        """(25,) EG3D's camera label of the aligned crop."""
        return label_of(orbit_pose(self.yaw, self.elevation), intrinsics())

    def camera(self, name: str, width: int, height: int) -> Camera:
        """The camera of the whole photo in EG3D's frame (see `eg3d.cameras.WORLD_FROM_HEAD`)."""
        pose = orbit_pose(self.yaw, self.elevation)
        c, s = math.cos(math.radians(self.roll)), math.sin(math.radians(self.roll))
        pose[:3, :3] = pose[:3, :3] @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        focal = FOCAL * self.side
        return Camera(name, width, height, focal, focal, self.x, self.y, pose)


def orbit_pose(yaw: float, elevation: float) -> NDArray[np.float64]:
    """(4, 4) camera-to-world of a camera around a head at EG3D's distance; degrees."""
    level = math.pi / 2 * (1 - math.sin(math.radians(elevation)))
    return look_at(math.pi / 2 + math.radians(yaw), level, PIVOT, RADIUS)


@torch.no_grad()
def find_faces(parser: HeadParser, rgb: NDArray[np.uint8]) -> list[Face]:
    """Faces of a photo (H, W, 3) uint8, the least doubtful first."""
    levels = pyramid(rgb)
    found = seen_in(parser, levels, all_windows(rgb.shape[1], rgb.shape[0]))
    found = sorted((face for face in found if face.score > LIKELY), key=lambda face: -face.score)[:STARTS]
    for _ in range(LOOKS):
        found = seen_in(parser, levels, [around(face) for face in found])
        found = [face for face in found if face.score > LIKELY]
    found.sort(key=lambda face: face.doubt)
    sure = [face for face in found if face.score > SURE]
    fair = [face for face in found if face.score > FAIR and face.doubt < DOUBTFUL / 2]
    return distinct([face for face in sure if face.doubt < DOUBTFUL]) or sure[:1] or fair[:1]


def around(face: Face, fill: float = FILL, turn: float = 0.0) -> Face:
    """The window to look at a face in."""
    return Face(face.x, face.y, face.side / fill, face.roll + turn, 0, 0)


@torch.no_grad()
def read_closely(reader: PoseReader, rgb: NDArray[np.uint8], face: Face) -> Face:
    """A face that was found in a photo (H, W, 3), as the pose encoder sees it in several windows, and in their mirror images.

    Where it doubts itself, and more than the finder did, the face stays as it is.
    """
    windows = [around(face, fill, turn) for fill in FILLS for turn in TURNS]
    image = cut(pyramid(rgb), windows)
    one, other = reader(image), reader(image.flip(3)) * image.new_tensor(MIRROR[1:])
    doubt = float(doubts(one - other).median())
    if doubt > max(UNSURE, face.doubt):
        return face
    rows = (0.5 * (one + other)).double().tolist()
    seen = [seen_from(window, row) for window, row in zip(windows, rows, strict=True)]
    return replace(face, **{name: float(np.median([said[name] for said in seen])) for name in seen[0]})


def doubts(apart: Tensor) -> Tensor:
    """(B,) degrees; (B, 6) by how much views of windows and of their mirror images differ."""
    return apart[:, 3:].norm(dim=1) * ANGLE + apart[:, :2].norm(dim=1) * APART


def portrait_face(parser: HeadParser, rgb: NDArray[np.uint8]) -> Face:
    """The one face of a portrait.

    Raises:
        InputError: NO_FACE, SEVERAL_FACES.
    """
    faces = find_faces(parser, rgb)
    if not faces:
        raise InputError(
            "NO_FACE",
            "No face was found in the picture.",
            "Use a portrait in which eyes, nose and mouth can be seen.",
        )
    near = [face for face in faces if face.side > 0.5 * max(f.side for f in faces)]
    if len(near) > 1:
        raise InputError("SEVERAL_FACES", f"The picture shows {len(near)} faces.", "Crop it to one face.")
    return near[0]


@torch.no_grad()
def face_parts(
    parser: HeadParser, rgb: NDArray[np.uint8], face: Face, margin: float = 0.78
) -> NDArray[np.uint8]:
    """(H, W) parts (`parser.PARTS`) of a photo (H, W, 3) around a face; what lies beyond the window is background.

    The window and its mirror image are both looked at.

    Args:
        margin: share of the window that the crop fills: hair and neck reach beyond it.
    """
    height, width = rgb.shape[:2]
    window = Face(face.x, face.y, face.side / margin, face.roll, 0, 0)
    image = cut(pyramid(rgb), [window])
    scores = parser(torch.cat([image, image.flip(3)])).parts.softmax(1)
    scores = 0.5 * (scores[:1] + scores[1:].flip(3))
    c, s = (math.cos(math.radians(face.roll)), math.sin(math.radians(face.roll)))
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    dx, dy = (x - face.x) * 2 / window.side, (y - face.y) * 2 / window.side
    grid = torch.from_numpy(np.stack([c * dx + s * dy, c * dy - s * dx], -1).astype(np.float32))[None]
    inside = (grid.abs().amax(-1) < 1)[0]
    parts = F.grid_sample(scores, grid, padding_mode="border", align_corners=False)[0].argmax(0)
    return torch.where(inside, parts, PARTS.index("background")).to(torch.uint8).numpy()


def aligned_crop(rgb: NDArray[np.uint8], face: Face, side: int = 512) -> NDArray[np.float32]:
    """(side, side, 3) 0..1: the face upright in EG3D's crop; beyond the photo its border goes on."""
    return cut(pyramid(rgb, side), [face], side)[0].permute(1, 2, 0).numpy()


def seen_in(parser: HeadParser, levels: list[Tensor], windows: list[Face], batch: int = 16) -> list[Face]:
    """What the network sees in each window, and in its mirror image, in pixels of the photo."""
    out = []
    for first in range(0, len(windows), batch):
        part = windows[first : first + batch]
        image = cut(levels, part)
        reading = parser(torch.cat([image, image.flip(3)]))
        view, parts = reading.view, reading.parts.softmax(1)
        one, other = view[: len(part)], view[len(part) :] * view.new_tensor(MIRROR)
        doubt = doubts((one - other)[:, 1:].double()).tolist()
        view = 0.5 * (one + other)
        proof = evidence(0.5 * (parts[: len(part)] + parts[len(part) :].flip(3))).tolist()
        rows = zip(part, view.double().tolist(), proof, doubt, strict=True)
        for window, (there, *numbers), shown, unsure in rows:
            score = shown / (1 + math.exp(-there))
            out.append(Face(**seen_from(window, numbers), score=score, doubt=unsure))
    return out


def seen_from(window: Face, numbers: Sequence[float]) -> dict[str, float]:
    """What a view without its presence (`parser.VIEW`), read in a window, says of the face: the first six of `Face`."""
    x, y, size, roll, yaw, elevation = numbers
    c, s = math.cos(math.radians(window.roll)), math.sin(math.radians(window.roll))
    dx, dy = x * window.side / 2, y * window.side / 2
    return {
        "x": window.x + c * dx - s * dy, "y": window.y + s * dx + c * dy, "side": window.side * math.exp(size),
        "roll": window.roll + roll * ANGLE, "yaw": yaw * ANGLE, "elevation": elevation * ANGLE,
    }  # fmt: skip


def evidence(parts: Tensor) -> Tensor:
    """(B,) 0..1: whether parts (B, 9, S, S) make a face: enough skin, eyes, nose and mouth, one below the other.

    Presence alone was learnt against noise and gradients, and takes much of a real photo for a face.
    """
    share = parts.mean((2, 3))
    enough = torch.stack([share[:, PARTS.index(name)] / least for name, least in EXPECTED.items()], 1)
    row = (torch.arange(parts.shape[2]) + 0.5) / parts.shape[2]
    heights = (parts * row[:, None]).mean((2, 3)) / share.clamp(min=1e-6)
    eyes, nose, mouth = (heights[:, PARTS.index(name)] for name in ("eyes", "nose", "mouth"))
    ordered = (eyes < nose) & (nose < mouth)
    return enough.clamp(max=1).amin(1) * ordered


def all_windows(width: int, height: int, finest: float = 0.22) -> list[Face]:
    """Squares that cover a photo, from all of it down to `finest` of its shorter side, each a half farther."""
    out = [Face(width / 2, height / 2, float(max(width, height)), 0, 0, 0)]
    side = float(min(width, height))
    while side >= max(finest * min(width, height), SIDE / 2):
        columns, rows = (max(1, math.ceil((length - side) / (side * 0.4)) + 1) for length in (width, height))
        xs = np.linspace(side / 2, width - side / 2, columns) if columns > 1 else [width / 2]
        ys = np.linspace(side / 2, height - side / 2, rows) if rows > 1 else [height / 2]
        out += [Face(float(x), float(y), side, 0, 0, 0) for x in xs for y in ys]
        side *= 0.6
    return out


def distinct(faces: list[Face]) -> list[Face]:
    """Without those that lie on an earlier one."""
    kept: list[Face] = []
    for face in faces:
        if all(math.hypot(face.x - f.x, face.y - f.y) > 0.6 * max(face.side, f.side) for f in kept):
            kept.append(face)
    return kept


def pyramid(rgb: NDArray[np.uint8], side: int = SIDE) -> list[Tensor]:
    """(1, 3, h, w) 0..1: the photo, and halves of it down to about `side`."""
    levels = [torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float() / 255]
    while min(levels[-1].shape[2:]) >= 2 * side:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def cut(levels: list[Tensor], windows: list[Face], side: int = SIDE) -> Tensor:
    """(B, 3, side, side) of square windows (x, y, side, roll of `Face`); beyond the photo its border goes on."""
    out = []
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    for window in windows:
        level = min(max(int(math.log2(max(window.side / side, 1))), 0), len(levels) - 1)
        picture = levels[level]
        half = window.side / 2
        c, s = math.cos(math.radians(window.roll)), math.sin(math.radians(window.roll))
        x, y = window.x + half * (c * u - s * v), window.y + half * (s * u + c * v)
        height, width = levels[0].shape[2:]
        grid = torch.stack([x * 2 / width - 1, y * 2 / height - 1], -1)[None]
        out.append(F.grid_sample(picture, grid, padding_mode="border", align_corners=False))
    return torch.cat(out)
