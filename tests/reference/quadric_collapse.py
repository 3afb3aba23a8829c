# SPDX-License-Identifier: GPL-3.0-or-later
"""Fast quadric mesh simplification, the variant without a priority queue that the occupancy systems publish.

Readable, slow, and equal to the published order of operations; the product simplifies with a library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Quadric = tuple[float, ...]
"""Upper triangle of the symmetric 4x4 matrix, row by row: ten numbers."""


class Collapse:
    """Edge collapses under a limit that grows from pass to pass.

    Args:
        vertices, faces: (V, 3) float64 and (F, 3).
        aggressiveness: exponent of the limit 1e-9 (pass + 3)^a.
    """

    def __init__(
        self, vertices: NDArray[np.float64], faces: NDArray[Any], aggressiveness: float = 5.0
    ) -> None:
        self.points: list[Vector] = [tuple(p) for p in vertices.tolist()]
        self.faces: list[list[int]] = faces.tolist()
        self.aggressiveness = aggressiveness
        self.deleted = [False] * len(self.faces)
        self.n_faces = len(self.faces)
        self.border = [True] * len(
            self.points
        )  # not known yet: the published first errors use ends and midpoints only
        self._set_quadrics()
        self.errors = [self._face_errors(face) for face in self.faces]
        self._rebuild_incidence()
        self._find_borders()

    def run(self, targets: Sequence[int]) -> list[tuple[NDArray[np.float64], NDArray[np.int32]]]:
        """The mesh at each of the targets (descending numbers of faces), or as far as it goes."""
        results = []
        waiting = list(targets)
        for number in range(100):
            while waiting and self.n_faces <= waiting[0]:
                results.append(self.compact())
                waiting.pop(0)
            if not waiting:
                return results
            if number and number % 5 == 0:
                self._drop_deleted()
            dirty = [False] * len(self.faces)
            limit = 1e-9 * (number + 3) ** self.aggressiveness
            for index in range(len(self.faces)):
                if self.errors[index][3] > limit or self.deleted[index] or dirty[index]:
                    continue
                self._collapse_one(index, limit, dirty)
                while waiting and self.n_faces <= waiting[0]:
                    results.append(self.compact())
                    waiting.pop(0)
                if not waiting:
                    return results
        return results + [self.compact()] * len(waiting)

    def compact(self) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Surviving faces and the vertices they use, order kept."""
        faces = np.array([f for f, gone in zip(self.faces, self.deleted, strict=True) if not gone], np.int64)
        used, inverse = np.unique(faces, return_inverse=True)
        return np.array(self.points)[used], inverse.reshape(-1, 3).astype(np.int32)

    def _collapse_one(self, index: int, limit: float, dirty: list[bool]) -> None:
        for j in range(3):
            if self.errors[index][j] >= limit:
                continue
            i0, i1 = self.faces[index][j], self.faces[index][(j + 1) % 3]
            if self.border[i0] != self.border[i1]:
                continue
            _, p = self._edge_error(i0, i1)
            gone0, gone1 = self._shared_faces(p, i0, i1), None
            if gone0 is not None:
                gone1 = self._shared_faces(p, i1, i0)
            if gone0 is None or gone1 is None:
                continue
            self.points[i0] = p
            self.quadrics[i0] = tuple(
                a + b for a, b in zip(self.quadrics[i1], self.quadrics[i0], strict=True)
            )
            self.incident[i0] = self._update(i0, i0, gone0, dirty) + self._update(i0, i1, gone1, dirty)
            return

    def _shared_faces(self, p: Vector, centre: int, other: int) -> list[bool] | None:
        """Which incident faces of `centre` vanish when it moves to p; None when a surviving one would degenerate."""
        gone = [False] * len(self.incident[centre])
        for k, (face, corner) in enumerate(self.incident[centre]):
            if self.deleted[face]:
                continue
            a, b = self.faces[face][(corner + 1) % 3], self.faces[face][(corner + 2) % 3]
            if other in (a, b):
                gone[k] = True
                continue
            d1, d2 = _unit(_minus(self.points[a], p)), _unit(_minus(self.points[b], p))
            if abs(_dot(d1, d2)) > 0.999 or _dot(_unit(_cross(d1, d2)), self.normals[face]) < 0.2:
                return None
        return gone

    def _update(self, kept: int, centre: int, gone: list[bool], dirty: list[bool]) -> list[tuple[int, int]]:
        """Hand the faces around `centre` over to `kept`; their incidences there."""
        incident = []
        for (face, corner), vanishes in zip(self.incident[centre], gone, strict=True):
            if self.deleted[face]:
                continue
            if vanishes:
                self.deleted[face] = True
                self.n_faces -= 1
                continue
            self.faces[face][corner] = kept
            dirty[face] = True
            self.errors[face] = self._face_errors(self.faces[face])
            incident.append((face, corner))
        return incident

    def _face_errors(self, face: list[int]) -> tuple[float, float, float, float]:
        e = [self._edge_error(face[j], face[(j + 1) % 3])[0] for j in range(3)]
        return e[0], e[1], e[2], min(e)

    def _edge_error(self, i0: int, i1: int) -> tuple[float, Vector]:
        """Quadric error of an edge and the point it would collapse to."""
        a = self.quadrics[i0]
        b = self.quadrics[i1]
        q = tuple(x + y for x, y in zip(a, b, strict=True))
        det = _det(q, 0, 1, 2, 1, 4, 5, 2, 5, 7)
        if det != 0 and not (self.border[i0] and self.border[i1]):
            p = (
                -1 / det * _det(q, 1, 2, 3, 4, 5, 6, 5, 7, 8),
                1 / det * _det(q, 0, 2, 3, 1, 5, 6, 2, 7, 8),
                -1 / det * _det(q, 0, 1, 3, 1, 4, 6, 2, 5, 8),
            )
            return _quadric_error(q, p), p
        p0, p1 = self.points[i0], self.points[i1]
        middle = ((p0[0] + p1[0]) / 2, (p0[1] + p1[1]) / 2, (p0[2] + p1[2]) / 2)
        choices = [(_quadric_error(q, p), p) for p in (middle, p1, p0)]
        return min(choices, key=lambda choice: choice[0])

    def _set_quadrics(self) -> None:
        self.normals: list[Vector] = []
        quadrics = [[0.0] * 10 for _ in self.points]
        for face in self.faces:
            p0, p1, p2 = (self.points[i] for i in face)
            a, b, c = _unit(_cross(_minus(p1, p0), _minus(p2, p0)))
            d = -_dot((a, b, c), p0)
            self.normals.append((a, b, c))
            plane = (a * a, a * b, a * c, a * d, b * b, b * c, b * d, c * c, c * d, d * d)
            for i in face:
                quadrics[i] = [x + y for x, y in zip(quadrics[i], plane, strict=True)]
        self.quadrics: list[Quadric] = [tuple(q) for q in quadrics]

    def _rebuild_incidence(self) -> None:
        self.incident: list[list[tuple[int, int]]] = [[] for _ in self.points]
        for index, face in enumerate(self.faces):
            for corner, i in enumerate(face):
                self.incident[i].append((index, corner))

    def _drop_deleted(self) -> None:
        kept = [i for i, gone in enumerate(self.deleted) if not gone]
        self.faces = [self.faces[i] for i in kept]
        self.errors = [self.errors[i] for i in kept]
        self.normals = [self.normals[i] for i in kept]
        self.deleted = [False] * len(kept)
        self._rebuild_incidence()

    def _find_borders(self) -> None:
        self.border = [False] * len(self.points)
        for incident in self.incident:
            seen: dict[int, int] = {}
            for face, _ in incident:
                for i in self.faces[face]:
                    seen[i] = seen.get(i, 0) + 1
            for i, times in seen.items():
                if times == 1:
                    self.border[i] = True


def _det(q: Quadric, a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int, i: int) -> float:
    return (
        q[a] * q[e] * q[i] + q[c] * q[d] * q[h] + q[b] * q[f] * q[g]
        - q[c] * q[e] * q[g] - q[a] * q[f] * q[h] - q[b] * q[d] * q[i]
    )  # fmt: skip


def _quadric_error(q: Quadric, p: Vector) -> float:
    x, y, z = p
    return (
        q[0] * x * x + 2 * q[1] * x * y + 2 * q[2] * x * z + 2 * q[3] * x + q[4] * y * y
        + 2 * q[5] * y * z + 2 * q[6] * y + q[7] * z * z + 2 * q[8] * z + q[9]
    )  # fmt: skip


def _minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _unit(a: Vector) -> Vector:
    length = (a[0] * a[0] + a[1] * a[1] + a[2] * a[2]) ** 0.5
    return (a[0] / length, a[1] / length, a[2] / length) if length else a
