# SPDX-License-Identifier: GPL-3.0-or-later
"""MISE and classic marching cubes against the published rule: points, meshes, 256 cases."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from maquette.core.models.onet.evaluation import points_inside
from maquette.core.surface.mise import Mise, mise_values

from ..reference.classic_cubes import CORNERS, closed_surface, marching_cubes
from ..reference.quadric_collapse import Collapse
from .fixture import Check, Fixture

Field = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def number(text: float | str) -> float:
    """A number, or a difference of logarithms such as `ln(0.2)-ln(0.8)`."""
    if not isinstance(text, str):
        return float(text)
    return sum(
        (-1 if sign == "-" else 1) * math.log(float(value))
        for sign, value in re.findall(r"([+-]?)ln\(([\d.]+)\)", text)
    )


def fields(sizes: dict[str, Any]) -> dict[str, Field]:
    """The analytic fields of the fixtures' README, (N, 3) float64 -> (N,)."""
    sphere, torus, plate, gyroid = (sizes[name] for name in ("sphere", "torus", "plate", "gyroid"))
    touch, empty = sizes["touch"], sizes["empty"]

    def torus_field(p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        ring = np.hypot(p[:, 0], p[:, 1]) - torus["major"]
        return torus["gain"] * (torus["minor"] - np.sqrt(ring**2 + p[:, 2] ** 2))

    def plate_field(p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        gain = plate["gain"]
        slab = gain * (plate["half_thickness"] - np.abs(p[:, 2] - plate["z"]))
        sides = [gain * (plate[f"half_{a}"] - np.abs(p[:, i])) for i, a in enumerate("xy")]
        ball = plate["ball"][0] * (plate["ball"][1] - np.linalg.norm(p - [0, 0, plate["ball_z"]], axis=1))
        return np.maximum(np.minimum(slab, np.minimum(*sides)), ball)

    def gyroid_field(p: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        k = 2 * np.pi * gyroid["periods"]
        s, c = np.sin(k * p), np.cos(k * p)
        g = s[:, 0] * c[:, 1] + s[:, 1] * c[:, 2] + s[:, 2] * c[:, 0]
        outside = np.maximum(0, np.abs(p).max(1) - gyroid["box"])
        return gyroid["gain"] * (gyroid["level"] - np.abs(g)) - gyroid["box_gain"] * outside

    return {
        "sphere": lambda p: sphere[0] * (sphere[1] - np.linalg.norm(p, axis=1)),
        "torus": torus_field,
        "plate": plate_field,
        "gyroid": gyroid_field,
        "touch": lambda p: touch[0] * (touch[1] - np.linalg.norm(p, axis=1)),
        "empty": lambda p: empty - np.abs(p).sum(1),
    }


def grids(fixture: Fixture) -> dict[str, tuple[str, int, int]]:
    """Case FIELD_A_B -> field, resolution 0 and depth: the labels stand for the grids of sizes.json in their order."""
    expected = fixture.neighbour("mise_mc_expected.json")
    cases = {}
    for case, entry in expected.items():
        field, *labels = case.split("_")
        if len(labels) != 2 or not all(label.isdigit() for label in labels):
            continue
        first = round(entry["points_per_round"][0] ** (1 / 3)) - 1
        if "resolution" in entry:
            full = entry["resolution"]
        else:  # a case of which only the order of the points is stored
            full = int(fixture.neighbour("mise_mc.npz")[f"{case}_query_order"].max())
        cases[case] = (field, first, round(math.log2(full / first)))
    return cases


def run(fixture: Fixture, case: str) -> Mise:
    """The octree of one case, fully evaluated."""
    sizes = fixture.sizes("mise_mc")
    field, resolution, depth = grids(fixture)[case]
    box = 1.0 + sizes.get("padding", 0.1)
    return mise_values(fields(sizes)[field], resolution, depth, number(sizes["threshold"]), box)


def mesh(fixture: Fixture, octree: Mise) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    sizes = fixture.sizes("mise_mc")
    return closed_surface(octree.dense(), octree.level, 1.0 + sizes.get("padding", 0.1))


def check_expected(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    """Counts, hashes and measures of the JSON file."""
    sizes = fixture.sizes("mise_mc")
    for case, (field, _, _) in grids(fixture).items():
        octree = run(fixture, case)
        wanted = fixture.neighbour(fixture.path.name)[case]
        found: dict[str, Any] = {"resolution": octree.resolution, "points_per_round": octree.points_per_round}
        if len(wanted) > 1:
            keys, _ = octree.known()
            found |= {"n_evaluated": len(keys), "n_full_grid": (octree.resolution + 1) ** 3}
            found["evaluated_index_sha256"] = hashlib.sha256(keys.astype("<i8").tobytes()).hexdigest()
            found |= measures(*mesh(fixture, octree))
            full = None
            if wanted["full_grid_mesh"] is not None:
                whole = mise_values(fields(sizes)[field], octree.resolution, 0, octree.level, 1.1)
                v, f = mesh(fixture, whole)
                full = [len(v), len(f)]
            found["full_grid_mesh"] = full
        for name in wanted:
            yield f"{case}/{name}", found[name]
    for name, (v, f) in simplified(fixture.path.parent).items():
        yield f"{name.replace('simplified', 'simplify_')}/n_vertices", len(v)
        yield f"{name.replace('simplified', 'simplify_')}/n_faces", len(f)
    iso = fixture.neighbour(fixture.path.name)["mc_volume"]["iso"]
    v, f = marching_cubes(fixture.neighbour("mise_mc.npz")["mc_volume"], iso)
    yield "mc_volume/n_vertices", len(v)
    yield "mc_volume/n_faces", len(f)


def measures(vertices: np.ndarray[Any, Any], faces: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Counts, closedness, volume, area, Euler number of a mesh without merging anything."""
    found: dict[str, Any] = {"n_vertices": len(vertices), "n_faces": len(faces), "watertight": None}
    if not len(faces):
        return found | {"volume": 0.0, "area": 0.0, "euler": None}
    shape = trimesh.Trimesh(vertices, faces, process=False)
    found |= {
        "watertight": bool(shape.is_watertight),
        "volume": float(shape.volume),
        "area": float(shape.area),
    }
    return found | {"euler": int(shape.euler_number)}


def check_arrays(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    """Points, dense grids, meshes, cell cases."""
    names = list(fixture.expected)
    for case in grids(fixture):
        if f"{case}_query_order" in names:
            yield f"{case}_query_order", _query_order(fixture, case)
        if f"{case}_dense" in names:
            octree = run(fixture, case)
            vertices, faces = mesh(fixture, octree)
            yield f"{case}_evaluated_flat_index", octree.known()[0]
            yield f"{case}_dense", octree.dense()
            yield f"{case}_vertices", vertices
            yield f"{case}_faces", faces
            if f"{case}_contains" in names:
                yield from _contains(fixture, case, vertices, faces)
    for name, (vertices, faces) in simplified(fixture.path.parent).items():
        yield f"{name}_vertices", vertices
        yield f"{name}_faces", faces
    yield from _cells(fixture)
    iso = fixture.neighbour("mise_mc_expected.json")["mc_volume"]["iso"]
    vertices, faces = marching_cubes(fixture.expected["mc_volume"], iso)
    yield "mc_volume_vertices", vertices
    yield "mc_volume_faces", faces


def _query_order(fixture: Fixture, case: str) -> np.ndarray[Any, Any]:
    sizes = fixture.sizes("mise_mc")
    field, resolution, depth = grids(fixture)[case]
    octree = Mise(resolution, depth, number(sizes["threshold"]))
    rounds = []
    while len(points := octree.query()):
        rounds.append(points)
        octree.update(fields(sizes)[field](1.1 * (points / octree.resolution - 0.5)))
    return np.concatenate(rounds)


@lru_cache
def simplified(folder: Path) -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """CASE_simplifiedN -> mesh. N is a label; the face budget is what the field that reaches every budget has left."""
    fixture = Fixture(folder / "mise_mc_expected.json")
    counts: dict[str, dict[str, int]] = {}
    for name, entry in fixture.neighbour(fixture.path.name).items():
        if match := re.fullmatch(r"(.+)_simplify_(\d+)", name):
            counts.setdefault(match[1], {})[match[2]] = entry["n_faces"]
    meshes = {}
    for case, labels in counts.items():
        budgets = {
            label: min(found[label] for found in counts.values() if label in found) for label in labels
        }
        descending = sorted(budgets, key=budgets.__getitem__, reverse=True)
        steps = Collapse(*mesh(fixture, run(fixture, case))).run([budgets[label] for label in descending])
        meshes |= {f"{case}_simplified{label}": made for label, made in zip(descending, steps, strict=True)}
    return meshes


def _contains(fixture: Fixture, case: str, vertices: Any, faces: Any) -> Iterator[tuple[str, Any]]:
    points = fixture.expected[f"{case}_contains_points"]
    yield f"{case}_contains", points_inside(vertices, faces, points)


def _cells(fixture: Fixture) -> Iterator[tuple[str, Any]]:
    """All 256 sign patterns of one cell, one after the other."""
    values = fixture.sizes("mise_mc")["corner_values"]
    vertices, faces, vertex_offsets, face_offsets = [], [], [0], [0]
    for case in range(256):
        cell = np.empty((2, 2, 2))
        for b, corner in enumerate(CORNERS):
            base, step = values["set_bit" if case >> b & 1 else "clear_bit"]
            cell[tuple(corner)] = base + step * b
        v, f = marching_cubes(cell, 0.0)
        vertices.append(v)
        faces.append(f)
        vertex_offsets.append(vertex_offsets[-1] + len(v))
        face_offsets.append(face_offsets[-1] + len(f))
    yield "mc256_vertices", np.concatenate(vertices)
    yield "mc256_faces", np.concatenate(faces)
    yield "mc256_vertex_offsets", np.array(vertex_offsets)
    yield "mc256_face_offsets", np.array(face_offsets)


CHECKS = {
    "mise_mc.npz": Check(check_arrays, inputs=("mc_volume", "*_contains_points")),
    "mise_mc_expected.json": Check(check_expected, inputs=("mc_volume/iso",)),
}
