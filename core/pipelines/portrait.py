# SPDX-License-Identifier: GPL-3.0-or-later
"""A portrait photo as the generator wants it: the face found, upright in the published crop, cut out; and its camera back in the photo."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..fit.inversion import Portrait
from ..images.cut_out import grab_cut
from ..images.load import open_photos, read_pixels
from ..models.eg3d.cameras import label_of
from ..models.heads.faces import Face, aligned_crop, face_parts, orbit_pose, portrait_face, read_closely
from ..models.heads.parser import PARTS
from ..types import Camera, Photo
from .head_model import OpenModel, head_parser, pose_reader

WORK_SIDE = 1024
"""Long side at which the face is looked for, pixels."""
LEAST_PX = 64
"""A face whose crop is smaller says too little."""
PROFILE_DEG = 50.0
"""Faces seen from farther round are profiles: the face finder has learnt no others."""
HEAD = 0.29, 0.43
"""Of the crop's side, to the left and right of its middle: up to where hair is believed without doubt, and from where on it is doubted; a head is
about 0.6 wide."""
CLOTHES = 0.62
"""Where in the crop, from its top, clothes may begin: background below it may or may not be a part of the head."""


@dataclass(frozen=True)
class FoundPortrait:
    """A face in a photo, ready to be inverted."""

    photo: Photo
    face: Face
    """In pixels of the whole photo; `side` is that of the generator's picture."""
    portrait: Portrait
    rgb: NDArray[np.float32]
    """(h, w, 3) the photo at working size."""
    mask: NDArray[np.float32]
    """(h, w) 0..1 the head."""
    crop: NDArray[np.float32]
    """(P, P, 3) 0..1, with its background."""

    def camera(self, label: Tensor) -> Camera:
        """The camera of the whole photo for a label (1, 25) of the crop: the same pose, turned by the crop's roll."""
        values = label[0].double().cpu().numpy()
        pose, k = values[:16].reshape(4, 4).copy(), values[16:].reshape(3, 3)
        c, s = math.cos(math.radians(self.face.roll)), math.sin(math.radians(self.face.roll))
        pose[:3, :3] = pose[:3, :3] @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        dx, dy = (k[0, 2] - 0.5) * self.face.side, (k[1, 2] - 0.5) * self.face.side
        x, y = self.face.x + c * dx - s * dy, self.face.y + s * dx + c * dy
        focal = float(k[0, 0] * self.face.side)
        return Camera(
            self.photo.name, self.photo.width, self.photo.height, focal, focal, float(x), float(y), pose
        )


def found_portrait(photo: Photo, opened: OpenModel, mask: str = "") -> FoundPortrait:
    """Find the face, crop it, tell it from the background.

    Args:
        photo: the picture.
        opened: the generator whose picture the crop is to equal.
        mask: file that is white on the head; empty: the photo's alpha, else the parser's parts.

    Raises:
        InputError: NO_FACE, SEVERAL_FACES, FACE_PROFILE, FACE_TOO_SMALL, HEAD_MASK_SIZE, HEAD_MASK_EMPTY.
    """
    rgb, alpha = read_pixels(photo, WORK_SIDE)
    parser = head_parser()
    shown = rgb if alpha is None else rgb * alpha[..., None] + 0.5 * (1 - alpha[..., None])
    seen = _bytes(shown)
    face = read_closely(pose_reader(), seen, portrait_face(parser, seen))
    checked_face(face, photo, rgb.shape[1])
    parts = face_parts(parser, seen, face)
    cover = given_mask(Path(mask), photo, rgb.shape[1::-1]) if mask else alpha
    if cover is None:
        cover = cv2.GaussianBlur(outlined(rgb, parts, face), (0, 0), face.side / 250)
    if float(cover.max()) < 0.5:
        raise InputError("HEAD_MASK_EMPTY", f"The mask of {photo.name} is empty.", "Paint the head white.")
    zoom = opened.zoom
    window = replace(face, side=face.side / zoom)
    side = opened.network.config.picture
    crop = aligned_crop(_bytes(rgb), window, side)
    soft = crop_plane(cover, window, side)
    label = torch.from_numpy(label_of(orbit_pose(face.yaw, face.elevation), _lens(opened, zoom)))[None]
    portrait = Portrait(_tensor(crop), label)
    if opened.bare:
        outline = torch.from_numpy(soft)[None, None]
        care = torch.ones_like(outline)
        below = int(side * (0.5 + (CLOTHES - 0.5) * zoom))
        if not mask and alpha is None:
            care[..., below:, :] = (outline[..., below:, :] > 0.5).float()
        portrait = Portrait(_tensor(crop * soft[..., None]), label, outline, care)
    large = photo.width / rgb.shape[1]
    whole = replace(window, x=window.x * large, y=window.y * large, side=window.side * large)
    return FoundPortrait(photo, whole, portrait, rgb, np.asarray(cover, np.float32), crop)


def checked_face(face: Face, photo: Photo, width: int) -> Face:
    """The face of a picture `width` pixels wide, if it serves.

    Raises:
        InputError: FACE_PROFILE, FACE_TOO_SMALL.
    """
    if abs(face.yaw) > PROFILE_DEG:
        raise InputError(
            "FACE_PROFILE",
            f"The face in {photo.name} is seen from the side ({abs(face.yaw):.0f} degrees).",
            "Use a portrait that shows both eyes.",
        )
    if face.side * photo.width / width < LEAST_PX:
        raise InputError(
            "FACE_TOO_SMALL",
            f"The face in {photo.name} is only {face.side * photo.width / width:.0f} pixels wide.",
            "Use a larger picture of it.",
        )
    return face


def given_mask(path: Path, photo: Photo, size: tuple[int, int]) -> NDArray[np.float32]:
    """A mask file over the whole photo, scaled to `size` (width, height): 0..1.

    Raises:
        InputError: HEAD_MASK_SIZE where its shape is another; those of `read_pixels`.
    """
    (picture,) = open_photos([path])
    if abs(picture.width * photo.height / (picture.height * photo.width) - 1) > 0.01:
        raise InputError(
            "HEAD_MASK_SIZE",
            f"The mask {path.name} is {picture.width} x {picture.height}, its picture {photo.width} x {photo.height}.",
            "Save the mask uncropped.",
        )
    rgb, alpha = read_pixels(picture)
    plane = rgb.mean(2) if alpha is None else alpha
    return np.asarray(cv2.resize(np.ascontiguousarray(plane), size, interpolation=cv2.INTER_AREA), np.float32)


def outlined(rgb: NDArray[np.float32], parts: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
    """(h, w) 0 or 1: the head, from the face reader's parts (h, w), whose outline is as coarse as its picture, by the colours of rgb (h, w, 3).

    What lies deeper inside than a sixteenth of the face's side is kept, what lies an eighth outside stays background. Curtains and walls beside a
    head are often taken for hair: beyond `HEAD` hair has to have the colours of the rest of the head.
    """
    head = (parts != PARTS.index("background")).astype(np.uint8)
    width = max(3, round(face.side / 16)) | 1
    inner, outer = (
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)) for size in (width, 2 * width + 1)
    )
    labels = np.where(head > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    aside = np.abs(np.arange(head.shape[1]) + 0.5 - face.x) / face.side
    hair = parts == PARTS.index("hair")
    labels[hair & (aside > HEAD[1])] = cv2.GC_PR_BGD
    labels[(cv2.erode(head, inner) > 0) & ~(hair & (aside > HEAD[0]))] = cv2.GC_FGD
    labels[cv2.dilate(head, outer) == 0] = cv2.GC_BGD
    rows, columns = np.nonzero(labels != cv2.GC_BGD)
    if not len(rows):
        return np.zeros(head.shape, np.float32)
    # The background next to the head says more than all of the photo's.
    reach = round(face.side / 4)
    top, left = max(int(rows.min()) - reach, 0), max(int(columns.min()) - reach, 0)
    window = slice(top, int(rows.max()) + reach), slice(left, int(columns.max()) + reach)
    out = np.zeros(head.shape, np.float32)
    out[window] = grab_cut(rgb[window], labels[window].copy())
    return out


def _lens(opened: OpenModel, zoom: float) -> NDArray[np.float64]:
    k = opened.frontal[0, 16:].view(3, 3).double().cpu().numpy().copy()
    k[0, 0] *= zoom
    k[1, 1] *= zoom
    return np.asarray(k)


def crop_plane(plane: NDArray[np.float32], window: Face, side: int) -> NDArray[np.float32]:
    """(side, side) of a plane over the photo; beyond the photo nothing."""
    c, s = math.cos(math.radians(window.roll)), math.sin(math.radians(window.roll))
    scale = window.side / side
    turn = np.array([[c, -s], [s, c]]) * scale
    offset = np.array([window.x, window.y]) - turn @ np.array([side / 2, side / 2])
    # OpenCV counts pixel centres in whole numbers.
    shift = offset + turn @ np.array([0.5, 0.5]) - 0.5
    matrix = np.concatenate([turn, shift[:, None]], 1)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(plane, matrix, (side, side), flags=flags), np.float32)


def _bytes(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray((rgb * 255 + 0.5).clip(0, 255), np.uint8)


def _tensor(rgb: NDArray[np.float32]) -> Tensor:
    """(P, P, 3) 0..1 -> (1, 3, P, P) -1..1."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None] * 2 - 1
