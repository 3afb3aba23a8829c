# SPDX-License-Identifier: GPL-3.0-or-later
"""Seconds of one textured head: `python -m tests.bench_head_sample [--heads 2] [--out FOLDER]`; nothing else may run beside it.

Printed are the imports (a cold engine pays them once) and each head from request to result, in one process as the engine does.
The import into Blender is not in it (0.3 s for a larger mesh). `sheet.png` shows each mesh: the generator's portrait, from in
front, both sides and behind.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from maquette.core.jobs.execution import execute
from maquette.core.jobs.request import Request
from maquette.core.pipelines import PIPELINES
from maquette.core.progress import Progress
from PIL import Image


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--heads", type=int, default=2, help="seeds 3, 4 ...")
    arguments.add_argument("--out", type=Path, default=Path("build/bench_head_sample"))
    options = arguments.parse_args()
    began = time.perf_counter()
    import maquette.core.pipelines.head_sample  # noqa: F401 - what is measured

    print(f"imports {time.perf_counter() - began:.1f} s")
    folders = []
    for seed in range(3, 3 + options.heads):
        folders.append(options.out / f"seed_{seed}")
        began = time.perf_counter()
        execute(Request("head_sample", (), {"seed": seed}, str(folders[-1])), Progress(), PIPELINES)
        print(f"seed {seed}: {time.perf_counter() - began:.1f} s (target 20)")
    from tests.bench_blending import cells

    rows = [np.concatenate(cells(folder), 1) for folder in folders]
    Image.fromarray(np.concatenate(rows)).save(options.out / "sheet.png")


if __name__ == "__main__":
    main()
