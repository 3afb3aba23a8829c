# SPDX-License-Identifier: GPL-3.0-or-later
"""Write training records: `python -m training.object_lrm.generate --packs FOLDER --out FOLDER`.

Rounds of packs (other pictures each time) and of procedural objects (other objects each time) take turns, `--rounds` of
them. Shards appear under their final name only when complete; a second start goes on where the first stopped.
Everything follows from `--seed`.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from .objects import ColouredMesh, held_out, pack_objects
from .procedural import procedural_object
from .records import RECORD, make_record

log = logging.getLogger(__name__)
SHARD = 64


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--packs", type=Path, required=True, help="folder cc0_objects")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--procedural", type=int, default=4000, help="objects in a round")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    packs = list(pack_objects(options.packs))
    order = np.random.default_rng(options.seed).permutation(len(packs))
    held = [partial(packs.__getitem__, i) for i in order if held_out(packs[i].name)]
    train = [partial(packs.__getitem__, i) for i in order if not held_out(packs[i].name)]
    write_shards(options.out, "validation", held, options.seed)
    for number in range(options.rounds):
        seed, seeds = (
            options.seed + number,
            range(number * options.procedural, (number + 1) * options.procedural),
        )
        write_shards(options.out, f"packs{number}", train, seed)
        write_shards(options.out, f"procedural{number}", [partial(procedural_object, i) for i in seeds], seed)


def write_shards(out: Path, kind: str, objects: Sequence[Callable[[], ColouredMesh]], seed: int) -> None:
    """Shards `KIND-0000.npy` of up to `SHARD` records; those that are there stay."""
    for first in range(0, len(objects), SHARD):
        path = out / f"{kind}-{first // SHARD:04d}.npy"
        if path.exists():
            continue
        start = time.perf_counter()
        members = objects[first : first + SHARD]
        shard = np.zeros(len(members), RECORD)
        for i, make in enumerate(members):
            shard[i] = make_record(make(), np.random.default_rng([seed, first + i, len(kind)]))
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            np.save(file, shard)
        os.replace(unfinished, path)
        log.info("%s: %.2f s an object", path.name, (time.perf_counter() - start) / len(members))


if __name__ == "__main__":
    main()
