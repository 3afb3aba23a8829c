# SPDX-License-Identifier: GPL-3.0-or-later
"""A painted ball as a Result folder. Its photos are computed by intersecting rays, without Blender and without its mesh,

so that what Blender shows through the imported cameras can be held against something independent of it.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from pathlib import Path

import numpy as np

RADIUS = 1.0


def paint(directions):
    """(..., 3) unit vectors -> (..., 3) sRGB: smooth, and different everywhere."""
    x, y, z = np.moveaxis(directions, -1, 0)
    red = 0.5 + 0.4 * np.sin(4 * x + 2 * y)
    green = 0.5 + 0.4 * np.sin(5 * y - 3 * z + 1)
    blue = 0.5 + 0.4 * np.cos(4 * z + 2 * x)
    return np.stack([red, green, blue], -1)


def write_png(path: Path, picture) -> None:
    """(H, W, 3 or 4) float 0..1 -> 8-bit PNG."""
    pixels = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    height, width, channels = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], 1).tobytes()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def photograph(camera, oversampling=4):
    """RGBA (H, W, 4) of the ball through a pinhole camera, from the ray-sphere intersection."""
    n = oversampling
    u = (np.arange(camera.width * n) + 0.5) / n
    v = (np.arange(camera.height * n) + 0.5) / n
    u, v = np.meshgrid(u, v)
    local = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1)
    rays = local @ camera.cam_to_world[:3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    origin = camera.cam_to_world[:3, 3]
    along = rays @ origin
    under_root = along**2 - origin @ origin + RADIUS**2
    hit = under_root > 0
    points = origin + (-along - np.sqrt(np.maximum(under_root, 0)))[..., None] * rays
    rgba = np.concatenate([paint(points / RADIUS) * hit[..., None], hit[..., None]], -1)
    return rgba.reshape(camera.height, n, camera.width, n, 4).mean((1, 3))


def look_at(centre, turn=0.0):
    """cam_to_world with OpenCV axes, looking at the origin from `centre`, rolled by `turn` radians."""
    forward = -np.asarray(centre, float) / np.linalg.norm(centre)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    pose = np.eye(4)
    pose[:3, 0] = np.cos(turn) * right + np.sin(turn) * down
    pose[:3, 1] = -np.sin(turn) * right + np.cos(turn) * down
    pose[:3, 2] = forward
    pose[:3, 3] = centre
    return pose


def ball_mesh(types, rings):
    """A latitude-longitude ball with about 2 * rings**2 triangles, counter-clockwise from outside, seam in the UVs only."""
    steps = np.linspace(0, 1, rings + 1)
    across, down = np.meshgrid(steps, steps)
    angle, polar = across * 2 * np.pi, down * np.pi
    vertices = RADIUS * np.stack(
        [np.sin(polar) * np.cos(angle), np.sin(polar) * np.sin(angle), np.cos(polar)], -1
    ).reshape(-1, 3)
    corner = np.arange(rings * (rings + 1))
    corner = corner[corner % (rings + 1) != rings]
    faces = np.concatenate(
        [
            np.stack([corner, corner + rings + 1, corner + 1], 1),
            np.stack([corner + 1, corner + rings + 1, corner + rings + 2], 1),
        ]
    )
    uvs = np.stack([across, 1 - down], -1).reshape(-1, 2)[faces]
    seen = (vertices[:, 2] > -0.5).astype(np.float32)
    return types.Mesh(
        vertices.astype(np.float32), faces.astype(np.int32), uvs.astype(np.float32), {"seen": seen}
    )


def ball_texture(size):
    """(size, 2 size, 3): row 0 at the top, where v = 1 and the ball's north pole are."""
    u, v = np.meshgrid((np.arange(2 * size) + 0.5) / (2 * size), (np.arange(size) + 0.5) / size)
    angle, polar = u * 2 * np.pi, v * np.pi
    return paint(np.stack([np.sin(polar) * np.cos(angle), np.sin(polar) * np.sin(angle), np.cos(polar)], -1))


def ball_cameras(types):
    """Six: landscape, portrait and square pictures, centres shifted, rolled, one doubtful."""
    sizes = [(320, 240), (240, 320), (256, 256), (320, 240), (240, 320), (300, 200)]
    cameras = []
    for i, (width, height) in enumerate(sizes):
        angle = 2 * np.pi * i / len(sizes)
        centre = 3.5 * np.array([np.cos(angle), np.sin(angle), 0.3 * (-1) ** i])
        cameras.append(
            types.Camera(
                name=f"photo {i}.jpg", width=width, height=height, fx=330.0 + 5 * i, fy=330.0 + 5 * i,
                cx=width / 2 + 3 * i - 7, cy=height / 2 - 2 * i + 4,
                cam_to_world=look_at(centre, turn=0.2 * i),
                grade="doubtful" if i == 4 else "good", reason="few matches" if i == 4 else "",
            )
        )  # fmt: skip
    return cameras


def world_from_ball():
    """A similarity with everything in it: turned, half the size, standing on z = 0."""
    c, s = np.cos(0.7), np.sin(0.7)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    placed = np.eye(4)
    placed[:3, :3] = 0.5 * turn
    placed[:3, 3] = (0.3, -0.2, 0.5)
    return placed


def write_ball(folder: Path, core, rings=96, texture=256, photos=True, distortion=(0.0,) * 4) -> Path:
    """The Result folder; `core` imports a module of the add-on's core by name. distortion: k1 k2 p1 p2 of the photos."""
    types, results = core("core.types"), core("core.results")
    folder.mkdir(parents=True, exist_ok=True)
    results.write_mesh(folder / "mesh.npz", ball_mesh(types, rings))
    write_png(folder / "base_color.png", ball_texture(texture))
    (folder / "views").mkdir(exist_ok=True)
    cameras = []
    for view in ball_cameras(types):
        stem = Path(view.name).stem
        if photos:
            write_png(folder / "views" / f"{stem}.png", photograph(view))
        source = dataclasses.replace(view.resized(2 * view.width, 2 * view.height), distortion=distortion)
        cameras.append(
            results.SceneCamera(
                source=source, view=view, image=f"views/{stem}.png" if photos else None,
                photo_path=f"/photos/{view.name}", metrics={"silhouette_iou": 0.97, "photo_psnr": 25.5},
            )
        )  # fmt: skip
    results.write_scene(
        folder,
        results.Result(
            name="Ball", method="photos",
            objects=[results.SceneObject("Ball", textures={"base_color": "base_color.png"})],
            cameras=cameras, failed={"photo 6.jpg": "no overlap"}, active_camera="photo 2.jpg",
            world_from_result=world_from_ball(), seed=2**40 + 7,
            model={"name": "none", "licence": "GPL-3.0-or-later"}, settings={"quality": "draft"},
            timings_s={"fit": 1.5}, metrics={"silhouette_iou": 0.97, "photo_psnr": 25.5, "registered": 6},
            warnings=["One photo could not be used."],
        ),
    )  # fmt: skip
    return folder


def take_cameras(types, frames, size=(64, 48)):
    """A full circle and more round the ball, one lens a frame, hand-held; frame 0 stands at angle 0."""
    return [
        types.Camera(
            name=f"shot_{frame:03d}.jpg", width=size[0], height=size[1], fx=60.0 + 0.5 * frame, fy=60.0 + 0.5 * frame,
            cx=size[0] / 2 + 0.1 * frame, cy=size[1] / 2, reason="few matches" if frame == 4 else "",
            cam_to_world=look_at(3.5 * np.array([np.cos(0.5 * frame), np.sin(0.5 * frame), 0.3]), turn=0.01 * frame),
            grade="doubtful" if frame == 4 else "good",
        )
        for frame in frames
    ]  # fmt: skip


def write_take(folder: Path, core, frames) -> Path:
    """A result of Estimate Poses: cameras of a numbered sequence and points, no mesh."""
    types, results = core("core.types"), core("core.results")
    (folder / "views").mkdir(parents=True, exist_ok=True)
    cameras = []
    for view in take_cameras(types, frames):
        image = f"views/{Path(view.name).stem}.png"
        write_png(folder / image, np.full((view.height, view.width, 3), 0.5))
        metrics = {"reprojection_px": 0.4}
        cameras.append(results.SceneCamera(view, view, image, f"/photos/{view.name}", metrics))
    floor = np.random.default_rng(0).uniform(-2, 2, (400, 3)) * [1, 1, 0.002] - [0, 0, 1]
    points = np.concatenate([floor, RADIUS * ball_mesh(types, 8).vertices]).astype(np.float32)
    np.savez(folder / "points.npz", points=points, colors=np.full((len(points), 3), 128, np.uint8))
    results.write_scene(
        folder,
        results.Result(
            name="Take", method="sfm", cameras=cameras, failed={"shot_003.jpg": "shares too little with the rest"},
            active_camera=cameras[0].source.name, world_from_result=world_from_ball(), points_file="points.npz",
            metrics={"grade": "A", "registered": len(cameras)},
        ),
    )  # fmt: skip
    return folder
