# SPDX-License-Identifier: GPL-3.0-or-later
"""Write training records of heads: `python -m training.heads.generate --packs FOLDER --out FOLDER`.

Shards appear under their final name only when complete; a second start goes on where the first stopped. Heads of kind
`validation` come from seeds of their own and never train. Everything follows from `--seed`.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path

import numpy as np
import torch

from .heads import Wardrobe
from .records import RECORD, make_record

log = logging.getLogger(__name__)
SHARD = 32
KINDS = ("train", "validation")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--packs", type=Path, required=True, help="folder training_packs")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--heads", type=int, default=2048)
    arguments.add_argument("--validation", type=int, default=64)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    wardrobe = Wardrobe(options.packs / "makehuman_head")
    write_shards(options.out, "validation", options.validation, wardrobe, options.seed)
    write_shards(options.out, "train", options.heads, wardrobe, options.seed)


def write_shards(out: Path, kind: str, count: int, wardrobe: Wardrobe, seed: int) -> None:
    """Shards `KIND-0000.npy` of up to `SHARD` heads; those that are there stay."""
    for first in range(0, count, SHARD):
        path = out / f"{kind}-{first // SHARD:04d}.npy"
        if path.exists():
            continue
        start = time.process_time()
        members = range(first, min(first + SHARD, count))
        shard = np.zeros(len(members), RECORD)
        for i, number in enumerate(members):
            shard[i] = make_record(wardrobe, (2 * seed + KINDS.index(kind), number))
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            np.save(file, shard)
        os.replace(unfinished, path)
        log.info("%s: %.2f CPU s a head", path.name, (time.process_time() - start) / len(members))


if __name__ == "__main__":
    main()
