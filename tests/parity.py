# SPDX-License-Identifier: GPL-3.0-or-later
"""Parity with the published systems: `python -m tests.parity FOLDER... [--only PART] [--dump DIR]`.

One line per expected array: name, largest difference over the largest magnitude of what is expected, tolerance, ok or
not; then `N passed, N failed`. An array, number or file that nothing computes counts as failed. `--dump` writes what was
computed under the same file and array names, for an outside comparison.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from .parity_checks.fixture import Check, Fixture, matches, relative_error
from .parity_checks.table import CHECKS, NOT_CHECKED


def lines_of(
    fixture: Fixture, check: Check, computed: dict[str, Any]
) -> Iterator[tuple[str, str, float, float]]:
    """(array name, remark, error, tolerance) for each expectation; fills `computed`."""
    expected = fixture.expected
    try:
        for name, value in check.function(fixture):
            value = value.detach().numpy() if isinstance(value, torch.Tensor) else value
            computed[name] = value
            tolerance = check.tolerance_of(name)
            if name not in expected:
                yield name, "computed but not in the file", float("inf"), tolerance
                continue
            compare = next((c for glob, c in check.compare.items() if matches(name, glob)), relative_error)
            error, remark = compare(expected[name], value)
            yield name, remark, error, tolerance
    except Exception as problem:  # one broken family must not hide the others; it fails the run
        yield "(check)", f"{type(problem).__name__}: {problem}", float("inf"), 0.0
        if fixture.raises:
            raise
    for name in expected:
        if name not in computed and not any(matches(name, glob) for glob in check.inputs):
            yield name, "not computed", float("inf"), check.tolerance_of(name)


def dump(folder: Path, fixture: Fixture, computed: dict[str, Any]) -> None:
    """Write the computed arrays beside each other as the fixture has them."""
    arrays = {}
    for name, value in computed.items():
        like = fixture.expected.get(name)
        if isinstance(like, np.ndarray):
            arrays[name] = np.ascontiguousarray(np.asarray(value).astype(like.dtype))
    folder.mkdir(parents=True, exist_ok=True)
    if fixture.path.suffix == ".safetensors":
        save_file(arrays, folder / fixture.path.name)
    elif fixture.path.suffix == ".npz":
        np.savez_compressed(folder / fixture.path.name, **arrays)


def main() -> int:
    """Run the checks of every file in the folders; exit status 1 when anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--dump", type=Path, help="folder for the computed arrays")
    parser.add_argument("--only", default="", help="part of a file name")
    parser.add_argument("--raise", dest="raises", action="store_true", help="stop at the first broken check")
    options = parser.parse_args()
    passed = failed = 0
    for folder in options.folders:
        for path in sorted(folder.iterdir()):
            if options.only not in path.name or any(matches(path.name, glob) for glob in NOT_CHECKED):
                continue
            check = CHECKS.get(path.name)
            if check is None:
                print(f"FAIL {path.name}: no check is written for this file")
                failed += 1
                continue
            began, fixture, computed = time.perf_counter(), Fixture(path, raises=options.raises), {}
            for name, remark, error, tolerance in lines_of(fixture, check, computed):
                good = error <= tolerance
                passed, failed = passed + good, failed + (not good)
                print(
                    f"{'ok  ' if good else 'FAIL'} {path.name}:{name} {error:.2e} <= {tolerance:.0e} {remark}".rstrip()
                )
            print(f"     {path.name}: {time.perf_counter() - began:.1f} s", flush=True)
            if options.dump:
                dump(options.dump, fixture, computed)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
