# SPDX-License-Identifier: GPL-3.0-or-later
"""The parity checks of fixtures/lrm as pytest runs them: the worst array of a file, in units of its tolerance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from maquette.core import errors

from tests.parity import lines_of
from tests.parity_checks.fixture import Check, Fixture

FOLDER = Path(errors.__file__).resolve().parents[1].parent / "shared" / "fixtures" / "lrm"
needs_fixtures = pytest.mark.skipif(not FOLDER.is_dir(), reason="the parity fixtures are not here")


def worst(pattern: str, checks: dict[str, Check]) -> float:
    """Largest error over tolerance among the arrays of the files that match; each is named when it is too large."""
    paths = sorted(FOLDER.glob(pattern))
    assert paths, f"no file matches {pattern}"
    most = 0.0
    for path in paths:
        computed: dict[str, Any] = {}
        for name, remark, error, tolerance in lines_of(
            Fixture(path, raises=True), checks[path.name], computed
        ):
            assert error <= tolerance, f"{path.name}:{name} {error:.2e} > {tolerance:.0e} {remark}"
            most = max(most, error / tolerance)
        assert computed, f"{path.name}: nothing was computed"
    return most
