# SPDX-License-Identifier: GPL-3.0-or-later
"""A sparse model: poses, lenses, points, and which image sees which point where. What mappers yield and bundle adjustment improves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..cameras.distortion import distort

LENS = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")


@dataclass(frozen=True)
class SparseModel:
    """All arrays in pixels of the working pictures; images are numbered as in `images`."""

    images: list[str]
    """Names of the working pictures (`GROUP/NUMBER.png`), sorted."""
    poses: NDArray[np.float64]
    """(N, 3, 4) world-to-camera, OpenCV axes."""
    lens_of_image: NDArray[np.int32]
    """(N,) row of `lenses`."""
    lenses: NDArray[np.float64]
    """(C, 8) fx fy cx cy k1 k2 p1 p2."""
    points: NDArray[np.float64]
    """(P, 3)."""
    colors: NDArray[np.uint8]
    """(P, 3) sRGB."""
    image_of: NDArray[np.int32]
    """(M,) image of each observation."""
    point_of: NDArray[np.int32]
    """(M,) point of each observation."""
    feature_of: NDArray[np.int32]
    """(M,) row of the image's feature list."""
    pixels: NDArray[np.float64]
    """(M, 2) where it was seen."""
    mapper: str = ""
    """incremental | global."""

    @property
    def centres(self) -> NDArray[np.float64]:
        """(N, 3) camera centres."""
        return -np.einsum("nji,nj->ni", self.poses[:, :, :3], self.poses[:, :, 3])

    def local(self) -> NDArray[np.float64]:
        """(M, 3) observed points in the frames of the cameras that see them."""
        poses = self.poses[self.image_of]
        return np.einsum("mij,mj->mi", poses[:, :, :3], self.points[self.point_of]) + poses[:, :, 3]

    def residuals(self) -> NDArray[np.float64]:
        """(M, 2) projection minus observation in pixels; points behind their camera count as 1e3 px off."""
        local = self.local()
        depth = np.where(local[:, 2] > 1e-9, local[:, 2], 1.0)
        lenses = self.lenses[self.lens_of_image[self.image_of]]
        out = np.empty((len(local), 2))
        for number in range(len(self.lenses)):
            mine = self.lens_of_image[self.image_of] == number
            k1, k2, p1, p2 = self.lenses[number, 4:]
            out[mine] = distort(local[mine, :2] / depth[mine, None], (k1, k2, p1, p2))
        out = out * lenses[:, :2] + lenses[:, 2:4] - self.pixels
        out[local[:, 2] <= 1e-9] = 1e3
        return out

    def keep(self, observations: NDArray[np.bool_]) -> SparseModel:
        """Only these observations (M,), and only points that two images still see."""
        count = np.bincount(self.point_of[observations], minlength=len(self.points))
        kept = count >= 2
        observations = observations & kept[self.point_of]
        row = np.cumsum(kept) - 1
        return replace(
            self,
            points=self.points[kept],
            colors=self.colors[kept],
            image_of=self.image_of[observations],
            point_of=row[self.point_of[observations]].astype(np.int32),
            feature_of=self.feature_of[observations],
            pixels=self.pixels[observations],
        )

    def without(self, images: set[int]) -> SparseModel:
        """The model after some images are taken out."""
        left = [i for i in range(len(self.images)) if i not in images]
        row = np.full(len(self.images), -1, np.int32)
        row[left] = np.arange(len(left), dtype=np.int32)
        trimmed = self.keep(row[self.image_of] >= 0)
        return replace(
            trimmed,
            images=[self.images[i] for i in left],
            poses=self.poses[left],
            lens_of_image=self.lens_of_image[left],
            image_of=row[trimmed.image_of],
        )

    def in_own_frame(self) -> SparseModel:
        """Mappers leave a random frame: here the first image's axes, the mean camera as origin, RMS distance to it 1."""
        centres = self.centres
        middle, turn = centres.mean(0), self.poses[0, :, :3]
        scale = 1.0 / max(float(np.sqrt(((centres - middle) ** 2).sum(1).mean())), 1e-12)
        rotation = self.poses[:, :, :3] @ turn.T
        moved = scale * (centres - middle) @ turn.T
        shift = -np.einsum("nij,nj->ni", rotation, moved)
        points = scale * (self.points - middle) @ turn.T
        return replace(self, poses=np.concatenate([rotation, shift[..., None]], 2), points=points)

    def angles_deg(self) -> NDArray[np.float64]:
        """(P,) largest angle under which two of a point's cameras see it, approximated from its first camera's ray."""
        rays = self.points[self.point_of] - self.centres[self.image_of]
        rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
        mean = np.zeros_like(self.points)
        np.add.at(mean, self.point_of, rays)
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
        cosine = np.clip((rays * mean[self.point_of]).sum(1), -1, 1)
        widest = np.zeros(len(self.points))
        np.maximum.at(widest, self.point_of, 2 * np.degrees(np.arccos(cosine)))
        return widest

    def track_lengths(self) -> NDArray[np.int64]:
        """(P,) number of images that see each point."""
        return np.bincount(self.point_of, minlength=len(self.points))
