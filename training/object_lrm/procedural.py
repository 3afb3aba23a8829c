# SPDX-License-Identifier: GPL-3.0-or-later
"""Random objects after Zeroverse (Xie et al. 2024, LRM-Zero): primitives, height fields, boolean cuts, thin parts, textures.

Shapes are signed functions on a grid, so that union, smooth union and cut are minima and maxima (Quilez' formulas); the
surface comes from marching cubes. Four families: assemblies of primitives, turned objects, furniture, and mirrored
bodies of limbs, which low-poly packs lack. Frame: z up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from .objects import ColouredMesh, unit_box

Array = NDArray[np.float32]
Shape = Callable[[Array], Array]
"""Points (..., 3) in -1..1 -> (...), negative inside."""
GRID = 60


def procedural_object(seed: int) -> ColouredMesh:
    """One random object; the seed says everything."""
    rng = np.random.default_rng([7, seed])
    family = (assembly, turned, furniture, creature)[rng.choice(4, p=[0.4, 0.2, 0.15, 0.25])]
    while True:
        mesh = _meshed(rng, *family(rng))
        if mesh is not None:
            vertices, faces, colours = mesh
            return ColouredMesh(f"procedural/{seed:06d}", vertices, faces, colours)


def assembly(rng: np.random.Generator) -> tuple[list[Shape], list[Shape], float]:
    """1 to 7 primitives, some cut out again, half of the objects mirrored about x = 0."""
    parts = [_placed(rng, _primitive(rng), 0.55) for _ in range(rng.integers(1, 8))]
    cuts = [_placed(rng, _primitive(rng), 0.6) for _ in range(rng.choice(3, p=[0.55, 0.3, 0.15]))]
    if rng.random() < 0.5:
        parts, cuts = [_mirrored(p) for p in parts], [_mirrored(c) for c in cuts]
    return parts, cuts, float(rng.choice([0.0, 0.0, 0.05, 0.15]))


def turned(rng: np.random.Generator) -> tuple[list[Shape], list[Shape], float]:
    """A profile turned about z (bottle, vase, cup, fruit), sometimes hollow, sometimes with a handle."""
    knots = np.sort(rng.uniform(-0.9, 0.9, rng.integers(3, 7)))
    radii = rng.uniform(0.15, 0.75) * rng.uniform(0.25, 1.0, len(knots))
    smooth = rng.random() < 0.6
    fine = np.linspace(-0.9, 0.9, 40)
    profile = np.interp(fine, knots, radii)
    if smooth:
        profile = np.convolve(np.pad(profile, 5, mode="edge"), np.ones(11) / 11, "valid")
        cap = rng.uniform(0.05, 0.9)
        profile *= np.clip((0.92 - np.abs(fine)) / cap, 0, 1) ** 0.5
    squash = rng.choice([1.0, 1.0, rng.uniform(0.4, 1.0)])

    def solid(p: Array) -> Array:
        flat = np.stack([p[..., 0], p[..., 1] / squash, p[..., 2]], -1)
        return np.maximum(_within(flat, fine, profile), np.abs(p[..., 2]) - 0.9)

    parts, cuts = [solid], []
    if rng.random() < 0.3:
        cuts = [lambda p: np.maximum(_within(p, fine, profile - 0.06), -0.8 - p[..., 2])]
    if rng.random() < 0.3:
        reach, height = float(profile.max()), rng.uniform(0.2, 0.5)
        parts.append(lambda p: _torus(p - np.array([reach, 0, 0.1], np.float32), height, 0.07, (0, 2, 1)))
    if rng.random() < 0.25:  # a leaning or lying one, bent
        bend, lying = rng.uniform(-0.6, 0.6), rng.random() < 0.6
        parts, cuts = [_bent(s, bend, lying) for s in parts], [_bent(s, bend, lying) for s in cuts]
    return parts, cuts, 0.0


def furniture(rng: np.random.Generator) -> tuple[list[Shape], list[Shape], float]:
    """Boards, legs, rails and backs: thin parts with right angles."""
    w, d, top = rng.uniform(0.3, 0.85, 2).tolist() + [rng.uniform(-0.3, 0.7)]
    t = rng.uniform(0.03, 0.09)
    box = lambda c, h: lambda p: _box(p - np.array(c, np.float32), np.array(h, np.float32))  # noqa: E731
    parts = [box((0, 0, top), (w, d, t))]
    inset = rng.uniform(0.75, 1.0)
    legs = rng.choice(["four", "slab", "post", "body"], p=[0.45, 0.2, 0.15, 0.2])
    mid, half = (top - 0.9) / 2, (top + 0.9) / 2
    if legs == "four":
        parts += [
            box((sx * (w - t) * inset, sy * (d - t) * inset, mid), (t, t, half))
            for sx in (-1, 1)
            for sy in (-1, 1)
        ]
    elif legs == "slab":
        parts += [box((sx * (w - t) * inset, 0, mid), (t * 0.7, d * inset, half)) for sx in (-1, 1)]
    elif legs == "post":
        parts += [box((0, 0, mid), (1.5 * t, 1.5 * t, half)), box((0, 0, -0.88), (w * 0.6, d * 0.6, t))]
    else:
        parts += [box((0, 0, mid), (w * inset, d * inset, half))]
    if rng.random() < 0.5:
        parts.append(box((0, d - t, (top + 0.9) / 2), (w, t, (0.9 - top) / 2)))
    if rng.random() < 0.4:
        parts.append(box((0, 0, rng.uniform(-0.7, top)), (w * inset, d * inset, t * 0.7)))
    for _ in range(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1])):  # things on it
        size = rng.uniform(0.06, 0.25, 3)
        spot = (rng.uniform(-w, w) * 0.8, rng.uniform(-d, d) * 0.8, top + size[2])
        parts.append(box(spot, size) if rng.random() < 0.5 else _at(_ellipsoid(size), spot))
    return parts, [], 0.0


def creature(rng: np.random.Generator) -> tuple[list[Shape], list[Shape], float]:
    """A mirrored body of ellipsoids and tapering limbs, melted together."""
    length, girth = rng.uniform(0.25, 0.6), rng.uniform(0.15, 0.35)
    standing = rng.random() < 0.4
    body = (
        (girth, girth * rng.uniform(0.7, 1.2), length)
        if standing
        else (girth, length, girth * rng.uniform(0.8, 1.3))
    )
    parts = [_ellipsoid(np.array(body))]
    head = np.array([0, 0 if standing else -length, length if standing else girth * 1.2]) * rng.uniform(
        0.9, 1.4
    )
    size = rng.uniform(0.12, 0.35)
    parts.append(_at(_ellipsoid(size * rng.uniform(0.7, 1.2, 3)), head))
    if rng.random() < 0.6:
        parts.append(_at(_ellipsoid(size * rng.uniform(0.3, 0.6, 3)), head + [0, -size, -0.2 * size]))
    thick = rng.uniform(0.04, 0.12)
    for y in [0.0] if standing else [-0.7 * length, 0.7 * length]:
        start = np.array([girth * 0.6, y, -0.6 * body[2]])
        parts.append(
            _mirrored(
                _limb(start, [start[0] * rng.uniform(0.8, 1.5), y + rng.normal(0, 0.06), -0.9], thick, thick)
            )
        )
    if standing or rng.random() < 0.2:
        start = np.array([body[0] * 0.8, 0, body[2] * 0.5])
        parts.append(
            _mirrored(
                _limb(start, start + rng.uniform([0.1, -0.4, -0.6], [0.5, 0.2, 0.5]), thick, thick * 0.8)
            )
        )
    if rng.random() < 0.8:  # ears, horns
        start = head + [size * 0.6, 0, size * 0.6]
        parts.append(
            _mirrored(_limb(start, start + rng.uniform([0, -0.1, 0.05], [0.3, 0.2, 0.45]), thick, 0.02))
        )
    if rng.random() < 0.6:  # tail
        start = np.array([0, body[1] * 0.9, 0])
        parts.append(_limb(start, start + rng.uniform([0, 0.1, -0.4], [0.05, 0.4, 0.4]), thick, 0.02))
    return parts, [], float(rng.uniform(0.02, 0.1))


def _primitive(rng: np.random.Generator) -> Shape:
    size = np.exp(rng.uniform(np.log(0.08), np.log(0.6), 3)).astype(np.float32)
    kind = rng.choice(["box", "ellipsoid", "cylinder", "cone", "torus", "frame", "super", "tube"])
    r, h = float(size[0]), float(size[2])
    if kind == "box":
        rounded = rng.choice([0.0, 0.3]) * size.min()
        return lambda p: _box(p, size - rounded) - rounded
    if kind == "ellipsoid":
        return _ellipsoid(size)
    if kind == "cylinder":
        return lambda p: np.maximum(np.hypot(p[..., 0], p[..., 1]) - r, np.abs(p[..., 2]) - h)
    if kind == "cone":
        tip = rng.uniform(0, 0.6)
        slope = lambda p: r * (1 + (tip - 1) * (p[..., 2] / h + 1) / 2)  # noqa: E731
        return lambda p: np.maximum(np.hypot(p[..., 0], p[..., 1]) - slope(p), np.abs(p[..., 2]) - h)
    if kind == "torus":
        return lambda p: _torus(p, max(r, 0.2), 0.25 * max(r, 0.2), (0, 1, 2))
    if kind == "frame":
        half, t = np.maximum(size, 0.2), 0.035
        edges = [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
        return lambda p: np.minimum.reduce(
            [np.maximum(np.abs(np.abs(p[..., a]) - half[a]), np.abs(np.abs(p[..., b]) - half[b])).clip(
                np.abs(p[..., c]) - half[c]) - t for a, b, c in edges])  # fmt: skip
    if kind == "super":
        power = rng.uniform(1.0, 5.0)
        return lambda p: ((np.abs(p / size) ** power).sum(-1) ** (1 / power) - 1) * size.min()
    middle, end = rng.uniform(-0.4, 0.4, (2, 3))
    return lambda p: np.minimum(_limb(-end, middle, 0.08, 0.06)(p), _limb(middle, end, 0.06, 0.05)(p))


def _box(p: Array, half: Array) -> Array:
    q = np.abs(p) - half
    return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)


def _ellipsoid(size: Array) -> Shape:
    scale = np.asarray(size, np.float32)
    return lambda p: (np.linalg.norm(p / scale, axis=-1) - 1) * scale.min()


def _torus(p: Array, radius: float, tube: float, order: tuple[int, int, int]) -> Array:
    x, y, z = (p[..., i] for i in order)
    return np.hypot(np.hypot(x, y) - radius, z) - tube


def _limb(start: Array, end: Array, thick: float, thin: float) -> Shape:
    a, b = np.asarray(start, np.float32), np.asarray(end, np.float32)

    def capsule(p: Array) -> Array:
        t = np.clip(((p - a) @ (b - a)) / max(float((b - a) @ (b - a)), 1e-6), 0, 1)
        return np.linalg.norm(p - a - t[..., None] * (b - a), axis=-1) - (thick + t * (thin - thick))

    return capsule


def _within(p: Array, heights: Array, radii: Array) -> Array:
    radius = np.interp(p[..., 2], heights, radii).astype(np.float32)
    return 0.7 * (np.hypot(p[..., 0], p[..., 1]) - radius)


def _at(shape: Shape, spot: Array) -> Shape:
    offset = np.asarray(spot, np.float32)
    return lambda p: shape(p - offset)


def _mirrored(shape: Shape) -> Shape:
    return lambda p: shape(np.concatenate([np.abs(p[..., :1]), p[..., 1:]], -1))


def _bent(shape: Shape, bend: float, lying: bool) -> Shape:
    def bent(p: Array) -> Array:
        q = p[..., [1, 2, 0]] if lying else p
        return shape(np.stack([q[..., 0] - bend * (q[..., 2] ** 2 - 0.3), q[..., 1], q[..., 2]], -1))

    return bent


def _placed(rng: np.random.Generator, shape: Shape, reach: float) -> Shape:
    """At a random place; half of the time turned by quarters only."""
    if rng.random() < 0.5:
        turn = np.eye(3, dtype=np.float32)[rng.permutation(3)]
    else:
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0].astype(np.float32)
    offset = rng.uniform(-reach, reach, 3).astype(np.float32) * rng.integers(0, 2, 3)
    return lambda p: shape((p - offset) @ turn)


def _meshed(
    rng: np.random.Generator, parts: list[Shape], cuts: list[Shape], melt: float
) -> tuple[Array, NDArray[np.int64], Array] | None:
    """Parts and cuts on the grid -> mesh with corner colours; None when nothing much is left."""
    axis = np.linspace(-1.1, 1.1, GRID, dtype=np.float32)
    p = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)
    each = [part(p) for part in parts]
    field = each[0]
    for other in each[1:]:
        if melt:
            h = np.maximum(melt - np.abs(field - other), 0) / melt
            field = np.minimum(field, other) - h * h * melt / 4
        else:
            field = np.minimum(field, other)
    for cut in cuts:
        field = np.maximum(field, -cut(p))
    if rng.random() < 0.35:  # height field
        field = field + rng.uniform(0.01, 0.05) * _waves(rng, p, rng.uniform(2, 9))
    field[[0, -1]] = field[:, [0, -1]] = field[:, :, [0, -1]] = 1.0
    if (field < 0).sum() < 60:
        return None
    vertices, faces, _, _ = marching_cubes(field.astype(np.float32), 0.0)
    vertices = (vertices / (GRID - 1) * 2.2 - 1.1).astype(np.float32)
    colours = _painted(rng, vertices, np.stack([part(vertices) for part in parts]))
    return unit_box(vertices), faces.astype(np.int64), colours[faces]


def _waves(rng: np.random.Generator, p: Array, frequency: float) -> Array:
    waves = rng.normal(size=(4, 3)).astype(np.float32) * frequency
    return np.sin(p @ waves.T + rng.uniform(0, 6.3, 4).astype(np.float32)).mean(-1)


def _painted(rng: np.random.Generator, vertices: Array, distances: Array) -> Array:
    """Vertex colours: one palette entry per part, then a pattern (bands, checks, clouds, a gradient) into a second colour."""
    value = rng.uniform(0.05, 1.0, (len(distances), 1)) ** 0.7
    palette = value * (1 - rng.uniform(0, 0.9) * rng.random((len(distances), 3)))
    if rng.random() < 0.4:
        palette[:] = palette[0]
    colours = palette[distances.argmin(0)]
    for _ in range(rng.integers(0, 3)):
        second = rng.random(3)
        kind, f = rng.integers(4), rng.uniform(2, 10)
        direction = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        u = vertices @ direction
        if kind == 0:
            share = (np.sin(f * u[:, 0]) > rng.uniform(-0.5, 0.8)).astype(float)
        elif kind == 1:
            share = (np.sin(f * u).prod(1) > 0).astype(float)
        elif kind == 2:
            share = np.clip(_waves(rng, vertices, f) * 2 + 0.3, 0, 1)
        else:
            share = np.clip(u[:, 0] * rng.uniform(0.5, 2) + 0.5, 0, 1)
        colours = colours + rng.uniform(0.3, 1.0) * share[:, None] * (second - colours)
    return np.clip(colours, 0, 1).astype(np.float32)
