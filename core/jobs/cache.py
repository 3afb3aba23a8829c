# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of stages, kept by what they were made from, so that a changed setting repeats only what depends on it.

An entry is a folder `cache/STAGE/KEY` with the stage's files and `entry.json`, which lists them with their size and hash.
It is made under another name and renamed when complete, so it is there as a whole or not at all; one that does not agree
with its list counts as missing. The least recently used entries go when the cache outgrows its bound. Runs in the engine.

    key = cache.key("match", 3, {"features": 4096}, photos)
    found = cache.folder("match", key)
    if found is None:
        with cache.store("match", key) as new:
            ...write files into new...
        found = cache.folder("match", key)
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import places
from .messages import plain

log = logging.getLogger(__name__)

BOUND_BYTES = 20 << 30
"""Size that the cache is cut down to; our choice: some dozens of photo sets. MAQUETTE_CACHE_GB sets another."""
IN_USE_S = 3600.0
"""An entry that was asked for within this time stays: a running job may be reading it."""
_ABANDONED_S = 24 * 3600.0  # an unfinished entry this old belongs to a process that has died
_LIST = "entry.json"


def key(
    stage: str, version: int, settings: Mapping[str, Any], inputs: Iterable[Path | str | bytes] = ()
) -> str:
    """Name of the entry that these make.

    Args:
        stage: name of the stage.
        version: to be raised when the stage's code changes what it makes.
        settings: those that matter to the stage and no others, in JSON's types or numpy's; order does not matter.
        inputs: files (by their content, not their name), keys of earlier stages, or bytes; order matters.

    Returns:
        32 hexadecimal digits.

    Raises:
        OSError: if a file cannot be read.
    """
    text = json.dumps([stage, version, plain(settings)], sort_keys=True)
    digest = hashlib.blake2b(text.encode("ascii"), digest_size=16)
    for item in inputs:
        part = (
            _file_hash(item) if isinstance(item, Path) else item.encode() if isinstance(item, str) else item
        )
        digest.update(hashlib.blake2b(part).digest())  # of one length, so that borders between inputs count
    return digest.hexdigest()


def folder(stage: str, name: str) -> Path | None:
    """The entry's folder, to be read within an hour; None where there is none, or a damaged one."""
    entry = places.folder("cache") / stage / name
    try:
        os.utime(
            entry / _LIST
        )  # before the files are looked at: from here on no other process removes the entry
        files = json.loads((entry / _LIST).read_text(encoding="utf-8"))["files"]
        for file, (size, expected) in files.items():
            if (entry / file).stat().st_size != size or _file_hash(entry / file).hex() != expected:
                raise ValueError(f"{file} has changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if entry.exists():
            log.warning("the cache entry %s is damaged (%s) and will be made again", entry, error)
        return None
    return entry


@contextmanager
def store(stage: str, name: str) -> Iterator[Path]:
    """An empty folder that becomes the entry when the block ends well and vanishes otherwise.

    Where two processes make the same entry, one of the two stays.

    Raises:
        OSError: a full disk; `failures.typed` makes it DISK_FULL.
    """
    parent = places.folder("cache") / stage
    new = parent / f".{name}.{uuid.uuid4().hex[:8]}.part"
    new.mkdir(parents=True)
    try:
        yield new
        files = {
            path.relative_to(new).as_posix(): (path.stat().st_size, _file_hash(path).hex())
            for path in sorted(new.rglob("*"))
            if path.is_file()
        }
        (new / _LIST).write_text(json.dumps({"files": files}), encoding="utf-8")
        with _locked():
            if folder(stage, name) is None:
                shutil.rmtree(parent / name, ignore_errors=True)
                new.replace(parent / name)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shrink()


def shrink(bound: int | None = None, in_use_s: float = IN_USE_S) -> None:
    """Remove least recently used entries until the cache holds at most `bound` bytes, and what dead processes left.

    Args:
        bound: bytes; None: MAQUETTE_CACHE_GB or BOUND_BYTES.
        in_use_s: entries asked for within so many seconds stay.
    """
    if bound is None:
        gigabytes = os.environ.get("MAQUETTE_CACHE_GB")
        bound = BOUND_BYTES if not gigabytes else int(float(gigabytes) * (1 << 30))
    with _locked():
        now, entries = time.time(), []
        for path in places.folder("cache").glob("*/*"):
            used, size = _use_and_size(path)
            if not path.name.startswith("."):
                entries.append((used, size, path))
            elif now - used > _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)
        total = sum(size for _, size, _ in entries)
        for used, size, path in sorted(entries):
            if total <= bound or now - used < in_use_s:
                break
            shutil.rmtree(path, ignore_errors=True)
            total -= size


@contextmanager
def _locked() -> Iterator[None]:
    """One process at a time puts entries in and takes them out."""
    from filelock import FileLock

    with FileLock(places.folder("cache") / ".lock"):
        yield


def _use_and_size(entry: Path) -> tuple[float, int]:
    """(time of the last use, bytes); zeros for one that has just gone."""
    try:
        listed = entry / _LIST
        used = (listed if listed.exists() else entry).stat().st_mtime
        return used, sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
    except OSError:
        return 0.0, 0


def _file_hash(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).digest()
