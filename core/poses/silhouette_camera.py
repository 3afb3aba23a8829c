# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera through which a mesh has the outline that a picture shows.

Seven numbers around the object's middle: where it stands in the picture and how large (three that the outline fixes at
once), then azimuth, elevation, roll and perspective (four that it fixes by its shape). Levenberg-Marquardt steps on the
difference of blurred silhouettes, from wide blur to narrow; Nelder and Mead's simplex on the overlap itself at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import fast_simplification
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize

from ..cameras.orbit import Orbit
from ..errors import InputError
from ..progress import Progress
from ..render.rasterize import camera_points, rasterize, spans
from ..types import Camera

Floats = NDArray[np.float64]
_REACH = (1.0, 1.0, 1.0, 2.0, 2.0, 1.5, 4.0)
"""How much farther each number must go than the first for the outline to move as far, roughly."""
_FLAT = (0, 1, 2, 5)
"""Numbers that only move the picture in its plane."""
EXACT_SIDE = 480
"""Long side at which the reported overlap is measured, pixels."""


@dataclass(frozen=True)
class SilhouetteSettings:
    """Settings of `fit_camera`."""

    side: int = 112
    """Pixels of the square window around the object in which silhouettes are compared."""
    azimuths: tuple[float, ...] = (0.0,)
    """Degrees around the object from the start camera that are tried first; the best of all combinations goes on."""
    elevations: tuple[float, ...] = (0.0,)
    """Degrees above the start camera that are tried first."""
    sigma_azimuth: float = 8.0
    """Degrees; how far the camera may well be from its start. An outline alone does not always tell (a vase has no azimuth)."""
    sigma_elevation: float = 15.0
    """Degrees."""
    sigma_roll: float = 6.0
    """Degrees."""
    sigma_distance: float = 0.35
    """Natural logarithm of the distance, at constant size in the picture: the perspective."""
    tie: float = 0.004
    """Overlap that one such deviation has to win."""
    faces: int = 5000
    """Triangles of the stand-in for the mesh while the camera moves."""
    polish: int = 80
    """Silhouettes drawn by the last, exact search; 0: none."""


@dataclass(frozen=True)
class SilhouetteFit:
    """What `fit_camera` yields."""

    camera: Camera
    iou: float
    """Overlap of mesh and mask through `camera`, 0..1."""
    start_iou: float
    """The same through the start camera."""
    turned_deg: tuple[float, float, float]
    """Azimuth, elevation and roll against the start camera."""


def fit_camera(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    mask: NDArray[np.float32],
    start: Camera,
    settings: SilhouetteSettings | None = None,
    progress: Progress | None = None,
) -> SilhouetteFit:
    """Solve focal length, distance, direction, roll and place so that the mesh covers the mask.

    Args:
        vertices: (V, 3) float32, the start camera's world.
        faces: (F, 3) int32.
        mask: (h, w) float32 0..1 over the whole picture, any size.
        start: camera of the picture without distortion, roughly right; its principal point is kept.
        settings: what is tried, and how firmly the camera is tied to its start.
        progress: told how far it is; asked to cancel.

    Returns:
        The camera, in pixels of `start`, and the overlaps before and after. Never worse than the start.

    Raises:
        InputError: NO_FOREGROUND for an empty mask, BEHIND_CAMERA when the start camera does not see the mesh.
    """
    settings, progress = settings or SilhouetteSettings(), progress or Progress()
    if not (mask > 0.5).any():
        raise InputError("NO_FOREGROUND", "The mask is empty.", "Mark the object in the mask.")
    camera = start.resized(mask.shape[1], mask.shape[0])
    anchor = 0.5 * (vertices.min(0).astype(np.float64) + vertices.max(0))
    orbit = Orbit.of(camera, anchor, float(np.linalg.norm(vertices - anchor, axis=1).max()))
    search = _Search(_stand_in(vertices, faces, settings.faces), mask, orbit, settings, progress)
    best = search.solve()
    solved = orbit.camera(best)
    before, after = (overlap(vertices, faces, mask, one) for one in (camera, solved))
    if after < before:
        best, solved, after = np.zeros(7), camera, before
    turned = np.degrees(best[3:6])
    return SilhouetteFit(
        replace(solved.resized(start.width, start.height), name=start.name),
        after,
        before,
        (float(turned[0]), float(turned[1]), float(turned[2])),
    )


def overlap(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], mask: NDArray[np.float32], camera: Camera
) -> float:
    """Intersection over union, 0..1, of a mask over the whole picture and the mesh seen by its camera."""
    scale = min(1.0, EXACT_SIDE / max(mask.shape))
    size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
    shown = (
        rasterize(torch.as_tensor(vertices), torch.as_tensor(faces), camera.resized(*size)).face.numpy() >= 0
    )
    wanted = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 0.5
    return float((shown & wanted).sum() / max((shown | wanted).sum(), 1))


@dataclass(frozen=True)
class _Window:
    """A square piece of the picture, drawn at `side` pixels."""

    left: float
    top: float
    size: float
    side: int

    @classmethod
    def around(cls, mask: NDArray[np.float32], side: int) -> _Window:
        rows, columns = np.nonzero(mask > 0.5)
        size = 1.5 * max(np.ptp(rows) + 1, np.ptp(columns) + 1)
        middle = 0.5 * (columns.min() + columns.max() + 1), 0.5 * (rows.min() + rows.max() + 1)
        return cls(middle[0] - size / 2, middle[1] - size / 2, float(size), side)

    def of(self, camera: Camera) -> Camera:
        scale = self.side / self.size
        cx, cy = (camera.cx - self.left) * scale, (camera.cy - self.top) * scale
        return replace(
            camera,
            width=self.side,
            height=self.side,
            fx=camera.fx * scale,
            fy=camera.fy * scale,
            cx=cx,
            cy=cy,
        )

    def cut(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """The piece of a plane, 0 beyond the picture, averaged down."""
        fine = 4 * self.side
        scale = fine / self.size
        move = np.array(
            [
                [scale, 0, -self.left * scale + 0.5 * scale - 0.5],
                [0, scale, -self.top * scale + 0.5 * scale - 0.5],
            ]
        )
        large = cv2.warpAffine(plane, move, (fine, fine), flags=cv2.INTER_LINEAR)
        return np.asarray(cv2.resize(large, (self.side, self.side), interpolation=cv2.INTER_AREA), np.float32)


class _Piece:
    """What the mask shows in the window at one size."""

    def __init__(self, mask: NDArray[np.float32], side: int) -> None:
        self.window = _Window.around(mask, side)
        self.wanted = self.window.cut(mask)
        self.inside = self.window.cut(np.ones_like(mask))  # what lies beyond the picture is not known
        self.area = float(self.wanted.sum())
        self.scale = side / self.window.size
        """Pixels of the window per pixel of the picture."""


class _Search:
    """Silhouettes of a stand-in in a window, and the numbers that bring them over the mask."""

    def __init__(
        self,
        mesh: tuple[torch.Tensor, torch.Tensor],
        mask: NDArray[np.float32],
        orbit: Orbit,
        settings: SilhouetteSettings,
        progress: Progress,
    ) -> None:
        self.vertices, self.faces = mesh
        self.orbit, self.settings, self.progress = orbit, settings, progress
        self.coarse, self.fine = _Piece(mask, settings.side // 2), _Piece(mask, settings.side)
        sigmas = [settings.sigma_azimuth, settings.sigma_elevation, settings.sigma_roll]
        self.sigma = np.array([*np.radians(sigmas), settings.sigma_distance])
        # Nearer than the object's own ball the mesh would reach behind the camera.
        nearest = float(np.log(min(1.05 * orbit.radius / orbit.distance, 0.99)))
        self.low = np.array([-np.inf, -np.inf, -2.0, -np.pi, -1.5, -1.5, max(nearest, -1.5)])
        self.high = np.array([np.inf, np.inf, 2.0, np.pi, 1.5, 1.5, 2.0])

    def solve(self) -> Floats:
        """The seven numbers."""
        settings = self.settings
        starts = [
            self._placed(np.array([0, 0, 0, np.radians(a), np.radians(e), 0, 0], np.float64))
            for a in settings.azimuths
            for e in settings.elevations
        ]
        numbers = starts[0] if len(starts) == 1 else min(starts, key=lambda x: self.loss(self.coarse, x))
        for piece, blur, steps in (
            (self.coarse, 3.0, 6),
            (self.coarse, 1.5, 8),
            (self.fine, 1.2, 12),
        ):
            numbers = self._steps(piece, numbers, blur, steps)
        return self._polished(numbers) if settings.polish else numbers

    def drawn(self, piece: _Piece, numbers: Floats) -> NDArray[np.float32]:
        """Silhouette in the window, (side, side) 0..1, four samples a pixel."""
        self.progress.check()
        camera = piece.window.of(self.orbit.camera(numbers))
        fine = camera.resized(2 * camera.width, 2 * camera.height)
        points = camera_points(self.vertices, fine)
        inverse = 1.0 / points[:, 2].clamp_min(1e-6)
        screen = torch.stack(
            [fine.fx * points[:, 0] * inverse + fine.cx, fine.fy * points[:, 1] * inverse + fine.cy], 1
        )
        covered = torch.zeros(fine.width * fine.height)
        for pixel, _, _ in spans(screen, inverse, self.faces, fine.width, fine.height):
            covered[pixel] = 1.0
        sides = (camera.height, 2, camera.width, 2)
        return np.asarray(covered.reshape(sides).mean((1, 3)).numpy(), np.float32)

    def loss(self, piece: _Piece, numbers: Floats) -> float:
        """1 - overlap, and what it costs to leave the start."""
        drawn = self.drawn(piece, numbers) * piece.inside
        overlap = np.minimum(drawn, piece.wanted).sum() / max(np.maximum(drawn, piece.wanted).sum(), 1e-6)
        tied = numbers[3:] / self.sigma
        return float(1.0 - overlap + self.settings.tie * (tied @ tied))

    def _placed(self, numbers: Floats) -> Floats:
        """Moved and scaled so that the silhouette's frame is that of the mask."""
        wanted, drawn = _frame(self.coarse.wanted), _frame(self.drawn(self.coarse, numbers))
        if drawn is None or wanted is None:
            return numbers
        shift = ((wanted[0] + wanted[1]) - (drawn[0] + drawn[1])) / 2
        size = np.log(np.linalg.norm(wanted[1] - wanted[0]) / np.linalg.norm(drawn[1] - drawn[0]))
        out = numbers.copy()
        out[:2] += shift / (self.orbit.radius_px * self.coarse.scale)
        out[2] = np.clip(out[2] + size, -1.9, 1.9)
        return out

    def _steps(self, piece: _Piece, numbers: Floats, blur: float, most: int) -> Floats:
        """Levenberg-Marquardt steps; the slopes of place, size and roll are those of the drawn picture itself."""
        weight = 1.0 / np.sqrt(piece.area)
        ties = np.sqrt(2.0 * self.settings.tie) / self.sigma
        step = 0.5 * blur / (self.orbit.radius_px * piece.scale)  # moves the outline by half the blur

        def blurred(plane: NDArray[np.float32]) -> Floats:
            return weight * cv2.GaussianBlur(plane * piece.inside, (0, 0), blur).ravel().astype(np.float64)

        def residuals(x: Floats) -> Floats:
            return np.concatenate([blurred(self.drawn(piece, x) - piece.wanted), ties * x[3:]])

        def slopes(x: Floats) -> Floats:
            here = self.drawn(piece, x)
            columns = []
            for i, reach in enumerate(_REACH):
                h = step * reach * (1.0 if x[i] + step * reach < self.high[i] else -1.0)
                change = np.zeros(7)
                change[i] = h
                moved = self._moved(piece, here, x, i, h) if i in _FLAT else self.drawn(piece, x + change)
                columns.append(np.concatenate([blurred(moved - here) / h, ties * change[3:] / h]))
            return np.stack(columns, 1)

        margin = 1e-6
        x = np.clip(numbers, self.low + margin, self.high - margin)
        found = least_squares(
            residuals, x, slopes, bounds=(self.low, self.high), max_nfev=most, ftol=3e-4, xtol=1e-4
        )
        return np.asarray(found.x)

    def _moved(
        self, piece: _Piece, drawn: NDArray[np.float32], numbers: Floats, which: int, amount: float
    ) -> NDArray[np.float32]:
        """A silhouette shifted, scaled or rolled in the picture: what drawing it anew would show, nearly."""
        unit = self.orbit.radius_px
        pixel = self.orbit.pixel + unit * numbers[:2] - [piece.window.left, piece.window.top]
        centre = pixel * piece.scale - 0.5
        linear = np.eye(2)
        shift = np.zeros(2)
        if which < 2:
            shift[which] = amount * unit * piece.scale
        elif which == 2:
            linear *= np.exp(amount)
        else:  # the camera rolls one way, its picture the other
            linear = np.array([[np.cos(amount), np.sin(amount)], [-np.sin(amount), np.cos(amount)]])
        move = np.concatenate([linear, (centre - linear @ centre + shift)[:, None]], 1)
        return np.asarray(cv2.warpAffine(drawn, move, drawn.shape[::-1], flags=cv2.INTER_LINEAR), np.float32)

    def _polished(self, numbers: Floats) -> Floats:
        simplex = numbers + np.concatenate(
            [np.zeros((1, 7)), np.diag([0.01, 0.01, 0.01, 0.04, 0.04, 0.02, 0.06])]
        )
        found = minimize(
            lambda x: self.loss(self.fine, np.clip(x, self.low, self.high)),
            numbers,
            method="Nelder-Mead",
            options={
                "initial_simplex": simplex,
                "maxfev": self.settings.polish,
                "fatol": 1e-4,
                "xatol": 1e-4,
            },
        )
        return np.clip(found.x, self.low, self.high) if found.fun < self.loss(self.fine, numbers) else numbers


def _frame(plane: NDArray[np.float32]) -> tuple[Floats, Floats] | None:
    """Lowest and highest x, y of what a silhouette covers; None where it is empty."""
    rows, columns = np.nonzero(plane > 0.5)
    if len(rows) < 2:
        return None
    low = np.array([columns.min(), rows.min()], np.float64)
    return low, np.array([columns.max() + 1, rows.max() + 1], np.float64)


def _stand_in(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mesh with at most so many faces: its outline at window size stays."""
    if len(faces) > most:
        vertices, faces = fast_simplification.simplify(
            np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces), 1.0 - most / len(faces)
        )
    return torch.as_tensor(np.asarray(vertices, np.float32)), torch.as_tensor(np.asarray(faces)).long()
