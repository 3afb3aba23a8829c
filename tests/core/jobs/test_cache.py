# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage cache: what counts for a key, whole entries or none, damage, races of two processes, the size bound."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from maquette.core.jobs import cache


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def put(stage, key, **files):
    with cache.store(stage, key) as new:
        for name, content in files.items():
            (new / name).write_bytes(content)
    return cache.folder(stage, key)


def test_a_key_depends_on_contents_and_not_on_names_or_order_of_settings(tmp_path):
    a, b, copy = tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "copy.jpg"
    a.write_bytes(b"one"), b.write_bytes(b"two"), copy.write_bytes(b"one")
    key = cache.key("match", 1, {"features": 4096, "peak": np.float64(0.5)}, [a, b])
    assert len(key) == 32
    assert key == cache.key("match", 1, {"peak": 0.5, "features": 4096}, [copy, b])
    others = [
        cache.key("match", 2, {"features": 4096, "peak": 0.5}, [a, b]),
        cache.key("map", 1, {"features": 4096, "peak": 0.5}, [a, b]),
        cache.key("match", 1, {"features": 4096, "peak": 0.6}, [a, b]),
        cache.key("match", 1, {"features": 4096, "peak": 0.5}, [b, a]),
        cache.key("match", 1, {"features": 4096, "peak": 0.5}, [a]),
        cache.key("match", 1, {"features": 4096, "peak": 0.5}, [a, b"tw", b"o"]),
    ]
    assert len({key, *others}) == 7


def test_an_entry_comes_back_and_a_failed_one_does_not(data):
    assert cache.folder("fit", "k") is None
    found = put("fit", "k", field=b"field", log=b"")
    assert sorted(path.name for path in found.iterdir()) == ["entry.json", "field", "log"]
    with pytest.raises(RuntimeError), cache.store("fit", "other") as new:
        (new / "half").write_bytes(b"x")
        raise RuntimeError
    assert cache.folder("fit", "other") is None
    assert sorted(path.name for path in (data / "cache" / "fit").iterdir()) == ["k"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "no list", "half a list"])
def test_a_damaged_entry_is_missing_and_can_be_made_again(damage):
    found = put("fit", "k", field=b"0123456789")
    if damage == "truncate":
        (found / "field").write_bytes(b"01234")
    elif damage == "flip":
        (found / "field").write_bytes(b"0123456780")
    elif damage == "remove":
        (found / "field").unlink()
    elif damage == "no list":
        (found / "entry.json").unlink()
    else:
        (found / "entry.json").write_text('{"files": {"fie')
    assert cache.folder("fit", "k") is None
    assert (put("fit", "k", field=b"new") / "field").read_bytes() == b"new"


def test_the_least_recently_used_go_first_but_not_those_in_use():
    for age, key in ((500, "a"), (400, "b"), (300, "c"), (10, "d")):
        found = put("fit", key, field=b"x" * 1000)
        os.utime(found / "entry.json", (time.time() - age, time.time() - age))
    cache.shrink(bound=10_000, in_use_s=100)
    assert all((cache.places.folder("cache") / "fit" / key).exists() for key in "abcd")
    cache.folder("fit", "a")  # used just now
    cache.shrink(bound=2500, in_use_s=100)
    assert [key for key in "abcd" if (cache.places.folder("cache") / "fit" / key).exists()] == ["a", "d"]
    cache.shrink(bound=0, in_use_s=100)
    assert [key for key in "abcd" if (cache.places.folder("cache") / "fit" / key).exists()] == ["a", "d"]
    cache.shrink(bound=0, in_use_s=0)
    assert not any((cache.places.folder("cache") / "fit" / key).exists() for key in "abcd")


RACER = """
import sys, time
from maquette.core.jobs import cache
me = sys.argv[1].encode()
bad = 0
for round in range(40):
    key = f"k{round % 4}"
    with cache.store("race", key) as new:
        for name in "ab":
            (new / name).write_bytes(me * 50_000)
    found = cache.folder("race", key)
    if found is not None:
        contents = {(found / name).read_bytes() for name in "ab"}
        bad += len(contents) != 1 or len(contents.pop()) != 50_000
    if round % 10 == 9:
        cache.shrink(bound=0, in_use_s=60)
    if round % 7 == 6:  # as if it had been evicted long after its last use
        cache.shrink(bound=0, in_use_s=0.05)
print(bad)
"""


def test_two_processes_never_see_a_mixture():
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, me], stdout=subprocess.PIPE, text=True) for me in "xy"
    ]
    out = [racer.communicate(timeout=60)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert out == ["0\n", "0\n"]
    for key in ("k0", "k1", "k2", "k3"):
        found = cache.folder("race", key)
        assert found is None or (found / "a").read_bytes() == (found / "b").read_bytes()
