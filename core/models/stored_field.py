# SPDX-License-Identifier: GPL-3.0-or-later
"""Any stored field, whatever system it came from. Importing this loads no torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..fields.field import Field


def load_field(path: Path) -> Field:
    """The field that some `Field.save` wrote, without the network that made it.

    Raises:
        InputError: FIELD_UNREADABLE when the file is not there, broken or of a kind that this version does not know.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            kind = json.loads(file.read(min(length, 1 << 26)))["__metadata__"]["field"]
        if kind == "fused":
            from ..fields.fused import FusedField

            return FusedField.load(path)
        if kind == "sparse_grid":
            from ..fields.sparse_grid import SparseGrid

            return SparseGrid.load(path)
        if kind == "depth_layers":
            from ..fields.depth_layers import DepthLayers

            return DepthLayers.load(path)
        if kind == "triplane":
            from ..fields.triplane import TriplaneField

            return TriplaneField.load(path)
        if kind == "sparseneus":
            from .sparseneus.field import NeuralSurface

            return NeuralSurface.load(path)
        if kind == "network":
            from .network_field import load_network_field

            return load_network_field(path)
        raise ValueError(f"unknown kind {kind}")
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise InputError(
            "FIELD_UNREADABLE",
            f"{path.name} holds no field that this version can read.",
            "Make the result again.",
        ) from error
