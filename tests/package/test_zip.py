# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension's zip: built by Blender's own builder, holding what it must and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = sorted(
    ROOT.glob(".venv-bpy-*/lib/python3.11/site-packages/bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py")
)

needs_builder = pytest.mark.skipif(
    not BUILDERS, reason="needs `make setup-bpy`: the builder ships in the bpy wheel"
)


def build(source: Path, out: Path, builder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, builder, "build", "--source-dir", source, "--output-dir", out]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def listing(tmp_path_factory) -> dict[str, int]:
    """Name -> size of the zip's members."""
    out = tmp_path_factory.mktemp("zip")
    done = build(ROOT, out, BUILDERS[0])
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(out.glob("*.zip"))) as archive:
        return {item.filename: item.file_size for item in archive.infolist()}


@needs_builder
@pytest.mark.parametrize("builder", BUILDERS, ids=lambda path: path.parents[4].name)
def test_every_blenders_builder_takes_the_extension(builder, tmp_path):
    done = build(ROOT, tmp_path, builder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"maquette-{manifest()['version']}.zip"]
    done = subprocess.run(
        [sys.executable, builder, "validate", next(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_builder
def test_the_builder_refuses_a_broken_manifest(tmp_path):
    text = (ROOT / "blender_manifest.toml").read_text(encoding="utf-8")
    (tmp_path / "blender_manifest.toml").write_text(text.replace('"1.0.0"', '"one"'), encoding="utf-8")
    (tmp_path / "__init__.py").write_text("", encoding="utf-8")
    assert build(tmp_path, tmp_path, BUILDERS[0]).returncode != 0


@needs_builder
def test_the_zip_holds_what_blender_needs(listing):
    wanted = {
        "__init__.py",
        "blender_manifest.toml",
        "LICENSE",
        "operators/__init__.py",
        "panels/__init__.py",
        "core/cli.py",
    }
    wanted |= {f"wheels/{path.name}" for path in (ROOT / "wheels").glob("*-py3*.txt")}
    assert wanted <= set(listing)


@needs_builder
def test_the_zip_holds_nothing_else(listing):
    allowed = re.compile(
        r"(operators|panels)/(.+/)?\w+\.py|core/(.+/)?\w+\.(py|toml|json|safetensors)"
        r"|wheels/(linux|windows|macos)-\w+-py3\d+-(cpu|cuda|mps)\.txt|wheels/README\.md"
        r"|__init__\.py|__main__\.py|blender_manifest\.toml|LICENSE|(operators|panels|core)/(.+/)?"
        r"|(wheels|core|operators|panels)/"
    )
    assert [name for name in listing if not allowed.fullmatch(name)] == []
    assert not allowed.fullmatch("tests/test_house.py")
    assert not allowed.fullmatch("wheels/torch-2.13.0-cp311-cp311-win_amd64.whl")


@needs_builder
def test_the_zip_is_small(listing):
    large = {name: size for name, size in listing.items() if size > 20_000_000}
    assert large == {}, "weights above 20 MB are downloads, not members of the zip"
    assert sum(listing.values()) < 150_000_000


def manifest() -> dict:
    return tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = re.search(r'VERSION = "(.+)"', (ROOT / "core" / "__init__.py").read_text(encoding="utf-8"))
    assert core is not None
    assert manifest()["version"] == project["version"] == core[1]


def test_manifest_keeps_the_platforms_wording():
    data = manifest()
    assert data["id"] == "maquette"
    assert data["blender_version_min"] == "4.2.0"
    assert data["license"] == ["SPDX:GPL-3.0-or-later"]
    for text in (data["tagline"], *data["permissions"].values()):
        assert len(text) <= 64
        assert text[-1].isalnum()
    assert "wheels" not in data, "the engine's packages live in their own environment, never in Blender's"


def test_lock_files_hold_hashes_for_every_package():
    locks = sorted((ROOT / "wheels").glob("*.txt"))
    assert len(locks) >= 11
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        packages = re.findall(
            r"^([a-z0-9-]+)==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE
        )
        assert len(packages) == text.count("=="), lock.name
        assert ("torch" in dict(packages)) == ("-py3" in lock.name), lock.name


def test_engine_versions_are_the_same_on_every_system():
    versions = {}
    for lock in (ROOT / "wheels").glob("*-py3*.txt"):
        for name, version in re.findall(
            r"^([a-z0-9-]+)==([^ +]+)", lock.read_text(encoding="utf-8"), re.MULTILINE
        ):
            versions.setdefault(name, set()).add(version)
    wanted = re.findall(
        r"^([a-z0-9-]+)==(\S+)", (ROOT / "wheels" / "engine.in").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(wanted) > 10
    assert {name: versions[name] for name, _ in wanted} == {name: {version} for name, version in wanted}


POLICY = re.compile(
    r"sys\.path\.(insert|append|extend)|sys\.path\s*[+=]|\bbl_info\b|\bensurepip\b|(?<![.\w])(eval|exec)\("
)
"""What the extension platform refuses: edits of the module path, old metadata, pip by the back door, evaluated text."""


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("sys.path.insert(0, here)", True),
        ("bl_info = {}", True),
        ("model.eval()", False),
        ("eval(text)", True),
    ],
)
def test_policy_check_sees(text, refused):
    assert bool(POLICY.search(text)) == refused


def test_blenders_side_keeps_the_platforms_policy():
    """Blender's process: operators, panels and what they import of core."""
    files = [ROOT / "__init__.py", *(ROOT / "core").glob("*.py")]
    files += [path for room in ("operators", "panels") for path in (ROOT / room).rglob("*.py")]
    assert [str(path) for path in files if POLICY.search(path.read_text(encoding="utf-8"))] == []
