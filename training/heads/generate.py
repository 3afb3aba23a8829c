# SPDX-License-Identifier: GPL-3.0-or-later
"""Write training records of heads: `python -m training.heads.generate --packs FOLDER --out FOLDER`.

Shards of coded heads (those of the head generator) and of both packs take turns. They appear under their final name only when complete; a second start goes on where the first stopped. Heads of kind
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

from .coded import CodedHeads, CodedSource
from .records import RECORD, Source, make_record

log = logging.getLogger(__name__)
SHARD = 32
KINDS = ("train", "validation", "train_ict", "validation_ict", "train_coded", "validation_coded")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--packs", type=Path, required=True, help="folder training_packs")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--heads", type=int, default=1024, help="of either pack")
    arguments.add_argument("--validation", type=int, default=64, help="of either pack")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--sources", nargs="+", default=["coded", "makehuman", "ict"], help="which heads")
    options = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    coded = CodedHeads(options.packs)
    all_sources: dict[str, tuple[str, Source]] = {
        "coded": ("_coded", CodedSource(coded)), "makehuman": ("", coded.wardrobe), "ict": ("_ict", coded.ict)
    }  # fmt: skip
    sources = dict(all_sources[name] for name in options.sources)
    for kind, count in (("validation", options.validation), ("train", options.heads)):
        for first in range(0, count, SHARD):
            for name, source in sources.items():
                numbers = range(first, min(first + SHARD, count))
                path = options.out / f"{kind}{name}-{first // SHARD:04d}.npy"
                write_shard(path, source, seed_of(options.seed, kind + name), numbers)


def seed_of(seed: int, kind: str) -> int:
    """Every kind has seeds of its own."""
    number = KINDS.index(kind)
    return 4 * seed + number if number < 4 else 1000 + 2 * seed + number


def write_shard(path: Path, source: Source, seed: int, numbers: range) -> None:
    """A shard of heads by their numbers, unless it is there."""
    if path.exists():
        return
    start = time.process_time()
    shard = np.zeros(len(numbers), RECORD)
    for i, number in enumerate(numbers):
        shard[i] = make_record(source, (seed, number))
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.save(file, shard)
    os.replace(unfinished, path)
    log.info("%s: %.2f CPU s a head", path.name, (time.process_time() - start) / len(numbers))


if __name__ == "__main__":
    main()
