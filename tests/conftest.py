# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test folder shares. Loaded in the bpy environments too, so nothing heavy is imported here."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HAS_BPY = importlib.util.find_spec("bpy") is not None

# The two kinds of environment see different folders: bpy wheels have no torch, .venv has no bpy.
collect_ignore = [] if HAS_BPY else ["blender"]

# Tests run beside other work; results must not depend on the number of threads either.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and fixtures beside the checkout; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (data and fixtures beside the checkout)")
    return folder
