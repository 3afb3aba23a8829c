# SPDX-License-Identifier: GPL-3.0-or-later
"""First cameras for an alignment, from nothing but a rough guess: by the shape of the outline, and by matched features.

Outlines: silhouettes from directions all around, each turned in its plane, against the photo's mask, both brought to one
place and size. Features: SIFT (Lowe 2004) between the photo and lit pictures of the geometry; each match is a point of
the surface, so a camera follows by RANSAC (PnP), for several focal lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..cameras.orbit import Orbit
from ..cameras.rotations import angle_deg
from ..progress import Progress
from ..types import Camera
from .alignment_evidence import Evidence
from .alignment_model import Model
from .in_threads import in_threads

Map = NDArray[np.float32]
Floats = NDArray[np.float64]

DIRECTIONS = 420
"""Over the whole sphere, about 10 degrees apart."""
ROLLS_DEG = np.arange(-60.0, 61.0, 12.0)
"""In the picture's plane, about level."""
OUTLINE_SIDE = 48
FEATURE_SIDE = 420
"""Pixels of drawn pictures for features."""
FOCALS = (0.75, 1.0, 1.33)
"""Times the expected focal length, for PnP."""


@dataclass(frozen=True)
class Start:
    """A camera to begin with."""

    camera: Camera
    """In the size of the photo."""
    rank: float
    """Higher is more promising; compared within one source."""
    source: str
    """outline | features | given."""


def directions_around(count: int) -> Floats:
    """(count, 3) unit directions spread evenly (golden spiral)."""
    number = np.arange(count) + 0.5
    z = 1.0 - 2.0 * number / count
    angle = np.pi * (1.0 + 5.0**0.5) * number
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)


def looking_from(model: Model, direction: Floats, camera: Camera, distance: float) -> Camera:
    """A level camera at a distance from the geometry's middle that looks at it, with the lens of another."""
    forward = -direction
    up = np.array([0.0, 0.0, 1.0]) if abs(direction[2]) < 0.98 else np.array([0.0, 1.0, 0.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
    pose[:3, 3] = model.anchor + distance * direction
    return replace(camera, cx=camera.width / 2, cy=camera.height / 2, cam_to_world=pose)


def near_directions(model: Model, start: Camera, within_deg: float) -> tuple[Floats, Floats]:
    """(directions (D, 3), their angles to the start's in degrees)."""
    around = directions_around(DIRECTIONS)
    offset = start.centre - model.anchor
    length = float(np.linalg.norm(offset))
    if length < 1e-3 * model.radius:
        return around, np.full(len(around), 90.0)
    angles = np.degrees(np.arccos(np.clip(around @ (offset / length), -1, 1)))
    chosen = angles <= within_deg
    return around[chosen], angles[chosen]


def by_outline(
    model: Model, photo: Evidence, start: Camera, within_deg: float, most: int, progress: Progress
) -> list[Start]:
    """Cameras under which the outline has the shape of the mask; the best `most` that differ from each other."""
    if photo.mask is None or photo.trust <= 0:
        return []
    wanted = _frame_of(photo.mask)
    directions, angles = near_directions(model, start, within_deg)
    size = wanted.size / photo.rgb.shape[1] * start.width  # pixels of the photo
    distance = max(start.fx * _mean_size(model) / size, 1.3 * model.radius)
    target = _shape(photo.mask, wanted, 0.0)
    found: list[tuple[float, Camera, _Frame, float]] = []
    for number, direction in enumerate(directions):
        if number % 16 == 0:
            progress.check()
        base = looking_from(model, direction, start, distance)
        window = _window(base, model, distance)
        drawn = model.outline(window).astype(np.float32)
        if drawn.sum() < 8:
            continue
        frame = _frame_of(drawn)
        shapes = np.stack([_shape(drawn, frame, roll) for roll in ROLLS_DEG])
        both = np.minimum(shapes, target).sum((1, 2)) / np.maximum(shapes, target).sum((1, 2))
        cost = 0.02 * (angles[number] / 60.0) ** 2 + 0.02 * (ROLLS_DEG / 30.0) ** 2
        best = int((both - cost).argmax())
        frame_in_photo = _Frame(
            (frame.middle - OUTLINE_SIDE) * base.fx / window.fx, frame.size * base.fx / window.fx
        )
        found.append((float((both - cost)[best]), base, frame_in_photo, float(ROLLS_DEG[best])))
    found.sort(key=lambda item: -item[0])
    scale = start.width / photo.rgb.shape[1]
    goal = _Frame(wanted.middle * scale, wanted.size * scale)
    starts: list[Start] = []
    for rank, base, frame, roll in found:
        camera = _placed(base, model, frame, goal, roll)
        if all(apart(camera, other.camera) > 14.0 for other in starts):
            starts.append(Start(camera, rank, "outline"))
        if len(starts) == most:
            break
    return starts


def by_features(
    model: Model, photo: Evidence, start: Camera, within_deg: float, most: int, progress: Progress
) -> list[Start]:
    """Cameras from features that the photo shares with pictures of the geometry."""
    scale = start.width / photo.rgb.shape[1]
    picture = _grey(photo.rgb)
    keys, descriptors = _sift().detectAndCompute(picture, None)
    if descriptors is None or len(keys) < 12:
        return []
    descriptors = _rooted(descriptors)
    places = np.array([key.pt for key in keys], np.float64) + 0.5
    directions, _ = near_directions(model, start, within_deg)
    directions = _thinned(directions, 26.0)
    # A long lens: little of the perspective is known yet.
    distance, focal = 4.0 * model.radius, 1.75 * FEATURE_SIDE
    lens = replace(start, width=FEATURE_SIDE, height=FEATURE_SIDE, fx=focal, fy=focal)

    def match(direction: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return _matches(model, looking_from(model, direction, lens, distance), places, descriptors)

    matched = in_threads(match, directions, lambda done: progress.check())
    starts: list[Start] = []
    near = sorted(range(len(matched)), key=lambda k: -len(matched[k][0]))[:10]
    for index in near:
        pixels, points = matched[index]
        for factor in FOCALS:
            camera, inliers = _from_points(pixels * scale, points, start, factor * start.fx, 4.0 * scale)
            if camera is not None and inliers >= 8:
                starts.append(Start(camera, float(inliers), "features"))
    starts.sort(key=lambda item: -item.rank)
    kept: list[Start] = []
    for one in starts:
        if all(apart(one.camera, other.camera) > 6.0 for other in kept):
            kept.append(one)
    return kept[:most]


def _sift() -> cv2.SIFT:
    """A new one for each picture: one detector must not serve two threads."""
    return cv2.SIFT.create(nfeatures=2500, contrastThreshold=0.02)


def _matches(
    model: Model, view: Camera, places: Floats, descriptors: Map
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(pixels of the photo (N, 2), points of the surface (N, 3))."""
    nothing = np.zeros((0, 2)), np.zeros((0, 3))
    shown = model.show(view)
    light = 0.55 + 0.45 * (shown.normal @ (view.cam_to_world[:3, :3] @ np.array([0.3, -0.5, -0.8])))
    drawn = np.clip(shown.albedo * light[..., None], 0, 1) ** (1 / 2.2)
    drawn = np.where(shown.inside[..., None], drawn, 0.5)
    keys, ours = _sift().detectAndCompute(_grey(drawn), (shown.inside * 255).astype(np.uint8))
    if ours is None or len(keys) < 8:
        return nothing
    mine, other = _clear_matches(_rooted(ours), descriptors)
    if len(mine) < 6:
        return nothing
    place = np.array([keys[k].pt for k in mine]) + 0.5
    row = np.clip(place[:, 1].astype(int), 0, view.height - 1)
    column = np.clip(place[:, 0].astype(int), 0, view.width - 1)
    depth = shown.depth[row, column].astype(np.float64)
    on = np.isfinite(depth)
    rays = np.stack(
        [(place[:, 0] - view.cx) / view.fx, (place[:, 1] - view.cy) / view.fy, np.ones(len(place))], 1
    )
    points = (rays * np.where(on, depth, 1.0)[:, None]) @ view.cam_to_world[:3, :3].T + view.centre
    return places[other][on], points[on]


def _clear_matches(ours: Map, theirs: Map) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of unit descriptors (N, 128) and their nearest of (M, 128) where the second nearest is clearly farther (Lowe 2004).

    One product of matrices: OpenCV's brute force takes four times as long.
    """
    if len(theirs) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    alike = ours @ theirs.T
    rows = np.arange(len(ours))
    first = alike.argmax(1)
    best = alike[rows, first]
    alike[rows, first] = -1.0
    away, next_away = (np.sqrt(np.maximum(2.0 - 2.0 * a, 0.0)) for a in (best, alike.max(1)))
    clear = away < 0.85 * next_away
    return rows[clear], first[clear]


def _from_points(
    pixels: Floats, points: Floats, lens: Camera, focal: float, tolerance: float
) -> tuple[Camera | None, int]:
    """Camera of a focal length and how many matches agree with it."""
    if len(pixels) < 6:
        return None, 0
    matrix = np.array([[focal, 0, lens.width / 2], [0, focal, lens.height / 2], [0, 0, 1.0]])
    cv2.setRNGSeed(0)
    try:
        good, turn, shift, inliers = cv2.solvePnPRansac(
            points,
            pixels,
            matrix,
            None,
            iterationsCount=400,
            reprojectionError=2.0 * tolerance,
            flags=cv2.SOLVEPNP_AP3P,
        )
    except cv2.error:
        return None, 0
    if not good or inliers is None:
        return None, 0
    rotation = cv2.Rodrigues(turn)[0]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.T, (-rotation.T @ shift).ravel()
    camera = replace(lens, fx=focal, fy=focal, cx=lens.width / 2, cy=lens.height / 2, cam_to_world=pose)
    return camera, len(inliers)


@dataclass(frozen=True)
class _Frame:
    """Where a silhouette lies and how large it is."""

    middle: Floats
    size: float
    """Root of its area, pixels."""


def _frame_of(plane: NDArray[np.float32]) -> _Frame:
    total = max(float(plane.sum()), 1e-6)
    rows, columns = np.indices(plane.shape)
    middle = np.array([float(((columns + 0.5) * plane).sum()), float(((rows + 0.5) * plane).sum())]) / total
    return _Frame(middle, total**0.5)


def _shape(plane: NDArray[np.float32], frame: _Frame, roll_deg: float) -> Map:
    """A silhouette brought to the middle and one size, as a camera rolled by so much sees it."""
    scale = 0.36 * OUTLINE_SIDE / frame.size
    angle = -np.radians(roll_deg)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = OUTLINE_SIDE / 2 - linear @ frame.middle
    move = np.concatenate([linear, shift[:, None]], 1)
    move[:, 2] += move[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV counts pixel centres as whole numbers
    if scale < 0.5:
        plane = cv2.GaussianBlur(plane, (0, 0), 0.4 / scale)
    return np.asarray(
        cv2.warpAffine(
            np.asarray(plane, np.float32), move, (OUTLINE_SIDE, OUTLINE_SIDE), flags=cv2.INTER_LINEAR
        ),
        np.float32,
    )


def _window(camera: Camera, model: Model, distance: float) -> Camera:
    """A small square picture around the geometry."""
    side = 2 * OUTLINE_SIDE
    reach = model.radius / max(np.sqrt(max(distance**2 - model.radius**2, 0.0)), 0.3 * model.radius)
    focal = 0.48 * side / reach
    return replace(camera, width=side, height=side, fx=focal, fy=focal, cx=side / 2, cy=side / 2)


def _mean_size(model: Model) -> float:
    """Root of the area of a silhouette, world units, roughly: the mean from six sides."""
    sizes = []
    for direction in np.concatenate([np.eye(3), -np.eye(3)]):
        side = 2 * OUTLINE_SIDE
        lens = Camera("", side, side, 20.0 * side, 20.0 * side, side / 2, side / 2, np.eye(4))
        view = looking_from(model, direction, lens, 45.0 * model.radius)
        sizes.append(np.sqrt(model.outline(view).sum()) * 45.0 * model.radius / view.fx)
    return float(np.mean(sizes))


def _placed(base: Camera, model: Model, frame: _Frame, goal: _Frame, roll_deg: float) -> Camera:
    """The camera moved so that the silhouette's middle and size are those of the mask. `frame` counts from the middle."""
    size = float(np.log(goal.size / frame.size))
    orbit = Orbit.of(base, model.anchor, model.radius)
    angle = -np.radians(roll_deg)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ frame.middle
    at = goal.middle - np.array([base.width / 2, base.height / 2]) - turned * np.exp(size)
    nearest = np.log(max(1.05 * model.radius / orbit.distance, 1e-3))
    nearness = max(-size, float(nearest))
    numbers = np.array([at[0] / orbit.radius_px, at[1] / orbit.radius_px, 0.0, 0.0, 0.0, -angle, nearness])
    numbers[2] = -nearness
    return orbit.camera(numbers)


def apart(one: Camera, other: Camera) -> float:
    """Angle between the rotations of two cameras, degrees."""
    return float(angle_deg(one.cam_to_world[:3, :3].T @ other.cam_to_world[:3, :3]))


def _thinned(directions: Floats, apart_deg: float) -> Floats:
    kept: list[Floats] = []
    for direction in directions:
        if all(direction @ other < np.cos(np.radians(apart_deg)) for other in kept):
            kept.append(direction)
    return np.array(kept)


def _rooted(descriptors: Map) -> Map:
    """RootSIFT (Arandjelovic and Zisserman 2012)."""
    return np.asarray(np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6)), np.float32)


def _grey(rgb: Map) -> NDArray[np.uint8]:
    return np.asarray(
        np.clip(rgb @ np.array([0.299, 0.587, 0.114], np.float32) * 255.0 + 0.5, 0, 255).astype(np.uint8)
    )
