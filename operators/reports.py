# SPDX-License-Identifier: GPL-3.0-or-later
"""How an operator ends: with a word to the artist where something is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from ..core.errors import MaquetteError

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import OperatorReturnItems

    Outcome = set[OperatorReturnItems]


ours: Any = bpy.ops.maquette  # type: ignore[attr-defined]
"""Our own operators, which the stubs do not know."""


def refuse(operator: bpy.types.Operator, error: MaquetteError) -> Outcome:
    """Show message and remedy; a Python caller gets them as RuntimeError."""
    operator.report({"ERROR"}, f"{error.message} {error.remedy}")
    return {"CANCELLED"}
