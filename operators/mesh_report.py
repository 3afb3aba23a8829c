# SPDX-License-Identifier: GPL-3.0-or-later
"""Faces, parts, holes and watertightness of a mesh as it is in Blender: `core.surface.report` with numpy alone, n-gons too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from numpy.typing import NDArray

from .settings import result_info
from .versions import chosen_mesh, in_object_mode

if TYPE_CHECKING:
    from .reports import Outcome


def measure(data: bpy.types.Mesh) -> dict[str, Any]:
    """The same names as `core.surface.report.mesh_report`: faces, vertices, parts, holes, watertight.

    A hole is a loop of edges that one face has alone; watertight means that every edge has two faces which run along it in
    opposite directions.
    """
    edges = _get(data.edges, "vertices", 2 * len(data.edges)).reshape(-1, 2)
    edge = _get(data.loops, "edge_index", len(data.loops))
    start = _get(data.loops, "vertex_index", len(data.loops))
    faces_at = np.bincount(edge, minlength=len(edges))
    along = np.bincount(edge, weights=np.where(edges[edge, 0] == start, 1.0, -1.0), minlength=len(edges))
    closed = len(data.polygons) > 0 and bool((faces_at == 2).all() and (along == 0).all())
    return {
        "faces": len(data.polygons),
        "vertices": len(data.vertices),
        "parts": _component_count(edges[faces_at > 0]),
        "holes": _component_count(edges[faces_at == 1]),
        "watertight": closed,
    }


def _component_count(pairs: NDArray[np.int32]) -> int:
    """Number of connected parts of a graph of these edges: the smallest label spreads, doubling its reach each time."""
    names, numbers = np.unique(pairs, return_inverse=True)
    label = np.arange(len(names))
    a, b = numbers.reshape(-1, 2).T
    while True:
        low = np.minimum(label[a], label[b])
        new = label.copy()
        np.minimum.at(new, label[a], low)
        np.minimum.at(new, label[b], low)
        while not np.array_equal(new[new], new):
            new = new[new]
        if np.array_equal(new, label):
            return len(np.unique(label))
        label = new


def _get(collection: Any, name: str, length: int) -> NDArray[np.int32]:
    values = np.empty(length, np.int32)
    collection.foreach_get(name, values)
    return values


class MAQUETTE_OT_check_mesh(bpy.types.Operator):
    """Count parts and holes of this mesh as it is now, and say whether it is watertight"""

    bl_idname = "maquette.check_mesh"
    bl_label = "Check Mesh"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """A mesh of a result has to be chosen."""
        if chosen_mesh(context) is None:
            cls.poll_message_set("Select a mesh of a result")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> Outcome:
        """Into the panel."""
        mesh = chosen_mesh(context)
        with in_object_mode(mesh):
            report = measure(mesh.data)
        result_info(mesh).report = json.dumps(report)
        tight = "watertight" if report["watertight"] else "not watertight"
        self.report({"INFO"}, f"{report['parts']} parts, {report['holes']} holes, {tight}")
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_check_mesh,)
