# SPDX-License-Identifier: GPL-3.0-or-later
"""What a parity check reads (`Fixture`), what it is (`Check`), and how two values are compared."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from scipy.spatial import cKDTree

TOLERANCE = 1e-4
INPUTS = ("in/*", "*/in/*", "in_*", "w/*", "*/w/*")
"""Arrays of the implicit files that are given, not expected."""

Compare = Callable[[Any, Any], tuple[float, str]]


def matches(name: str, glob: str) -> bool:
    """Shell-style match; `*` also crosses slashes."""
    return fnmatch.fnmatchcase(name, glob)


@dataclass(frozen=True)
class Check:
    """How one fixture file is checked."""

    function: Callable[[Fixture], Iterator[tuple[str, Any]]]
    """Yields (array name, computed value) for every expectation of the file."""
    inputs: tuple[str, ...] = INPUTS
    """Globs of arrays that are given; one that is computed all the same is compared too."""
    tolerances: Mapping[str, float] = field(default_factory=dict)
    """Glob -> tolerance where it is not 1e-4; the first match counts."""
    compare: Mapping[str, Compare] = field(default_factory=dict)
    """Glob -> (error, remark) where it is not `relative_error`."""

    def tolerance_of(self, name: str) -> float:
        """The tolerance of one array."""
        return next((value for glob, value in self.tolerances.items() if matches(name, glob)), TOLERANCE)


@dataclass(frozen=True)
class Fixture:
    """One file of a fixture folder and its neighbours."""

    path: Path
    raises: bool = False

    @cached_property
    def expected(self) -> dict[str, Any]:
        """Array name -> array; for JSON files: path/with/slashes -> number, text or list."""
        if self.path.suffix == ".safetensors":
            return dict(load_file(self.path))
        if self.path.suffix == ".npz":
            with np.load(self.path) as data:
                return {name: data[name] for name in data.files}
        return flatten(json.loads(self.path.read_text(encoding="utf-8")))

    def sizes(self, section: str = "") -> dict[str, Any]:
        """A section of sizes.json (by default the one named as this file), {} where there is none."""
        sizes = json.loads((self.path.parent / "sizes.json").read_text(encoding="utf-8"))
        found = sizes.get(section or self.path.stem, {})
        return found if isinstance(found, dict) else {}

    def sizes_of(self, name: str) -> Any:
        """One value of sizes.json."""
        return json.loads((self.path.parent / "sizes.json").read_text(encoding="utf-8"))[name]

    def neighbour(self, name: str) -> Any:
        """The arrays (or the parsed JSON) of another file of the folder."""
        path = self.path.parent / name
        return (
            json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else Fixture(path).expected
        )

    def group(self, prefix: str) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays under `prefix/`, without the prefix."""
        start = prefix.rstrip("/") + "/"
        return {
            name.removeprefix(start): value for name, value in self.expected.items() if name.startswith(start)
        }

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Everything of the file that is an array."""
        return {name: value for name, value in self.expected.items() if isinstance(value, np.ndarray)}

    def cases(self) -> list[str]:
        """First parts of the names CASE/in, CASE/w, CASE/out, in order."""
        parts = [name.split("/") for name in self.expected]
        return list(dict.fromkeys(p[0] for p in parts if len(p) > 2 and p[1] in ("in", "w", "out")))


def pick_set(sizes: Mapping[str, Any], **measured: int) -> dict[str, Any]:
    """A section of sizes.json that lists several sets: the values common to all and those of the set that fits.

    The set that fits is the one whose numbers equal what the arrays at hand measure; a section without sets is flat.
    """
    common = {k: v for k, v in sizes.items() if not (k == "both" or k.startswith("set"))} | dict(
        sizes.get("both", {})
    )
    sets = [v for k, v in sizes.items() if k.startswith("set") and isinstance(v, dict)]
    fits = [s for s in sets if all(s.get(k, v) == v for k, v in measured.items())]
    if sets and len(fits) != 1:
        raise ValueError(f"{len(fits)} sets of sizes.json fit {measured}")
    return common | (fits[0] if fits else {})


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries -> one, names joined by slashes."""
    if not isinstance(value, dict):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{name}/{key}" if name else key)
    return flat


def relative_error(expected: Any, got: Any) -> tuple[float, str]:
    """Largest absolute difference over the largest magnitude of the expected array; equality for anything else."""
    if not isinstance(expected, np.ndarray | float | int | list) or _is_text(expected):
        return (0.0, "") if expected == got else (float("inf"), f"{str(got)[:60]} for {str(expected)[:60]}")
    a, b = np.asarray(expected, np.float64), np.asarray(got, np.float64)
    if a.shape != b.shape:
        return float("inf"), f"shape {b.shape} for {a.shape}"
    holes = np.isnan(a)
    if holes.any() and (holes == np.isnan(b)).all():  # 0 / 0 in the original, in the same places here
        a, b = np.where(holes, 0.0, a), np.where(holes, 0.0, b)
    if not np.isfinite(b).all():
        return float("inf"), "not finite"
    return (float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)), "") if a.size else (0.0, "")


def point_set_error(expected: Any, got: Any) -> tuple[float, str]:
    """Largest distance from a point of either set to the other set, over the largest coordinate; order is free."""
    a, b = np.asarray(expected, np.float64), np.asarray(got, np.float64)
    if not len(a) or not len(b):
        return (0.0 if len(a) == len(b) else float("inf")), f"{len(b)} points for {len(a)}"
    far = max(cKDTree(a).query(b)[0].max(), cKDTree(b).query(a)[0].max())
    return float(far / max(np.abs(a).max(), 1e-12)), f"{len(b)} points for {len(a)}"


def _is_text(value: Any) -> bool:
    try:
        np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return True
    return False
