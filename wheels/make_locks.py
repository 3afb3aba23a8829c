# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the lock files of this folder: exact versions and SHA-256 of the public files, one file per target.

    python wheels/make_locks.py [NAME ...] [--find-links FOLDER]

Needs `uv` on the path (it resolves for other systems and Pythons than the one it runs on, which pip cannot). Nothing is
downloaded but metadata. A target whose files the configured indexes do not offer is named, and its lock file removed:
a lock without hashes would be worse than none.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTEST = ("pytest==9.2.0", "pytest-timeout==2.4.0")


@dataclass(frozen=True)
class Target:
    """One lock file."""

    python: str
    """Version of the Python that will install it."""
    platform: str
    """As uv names it."""
    extra: tuple[str, ...] = ()
    """Requirements beside, or instead of, engine.in."""
    engine: bool = True
    """Whether engine.in belongs to it."""


LINUX, WINDOWS, MACOS = "x86_64-manylinux_2_28", "x86_64-pc-windows-msvc", "aarch64-apple-darwin"
CPU = ("torch==2.13.0+cpu",)  # the plain Linux file brings CUDA libraries of gigabytes
TARGETS = {
    **{
        f"{system}-py{python.replace('.', '')}-{device}": Target(python, platform, extra)
        for python in ("3.11", "3.13")
        for system, device, platform, extra in (
            ("linux-x64", "cpu", LINUX, CPU),
            ("linux-x64", "cuda", LINUX, ()),
            ("windows-x64", "cpu", WINDOWS, ()),
            ("macos-arm64", "mps", MACOS, ()),
        )
    },
    "dev": Target(
        "3.11", LINUX, (*PYTEST, "ruff==0.17.5", "mypy==2.4.1", "fake-bpy-module-4.2==20260730"), False
    ),
    "bpy-4.2": Target("3.11", LINUX, ("bpy==4.2.23", "numpy==1.26.4", *PYTEST), False),
    "bpy-4.5": Target("3.11", LINUX, ("bpy==4.5.15", *PYTEST), False),
    "bpy-5.0": Target("3.11", LINUX, ("bpy==5.0.1", *PYTEST), False),
}


def resolve(target: Target, find_links: str | None) -> list[dict]:
    """The packages of a target as pylock.toml (PEP 751) lists them: only files that fit it.

    Raises:
        subprocess.CalledProcessError: when the indexes do not offer what is asked for.
    """
    lines = (HERE / "engine.in").read_text(encoding="utf-8").splitlines() if target.engine else []
    replaced = {line.split("==")[0] for line in target.extra}
    requirements = [line for line in lines if line.split("==")[0] not in replaced] + list(target.extra)
    command = ["uv", "pip", "compile", "-", "--no-python-downloads", "--only-binary", ":all:", "--quiet"]
    command += [
        "--python-version",
        target.python,
        "--python-platform",
        target.platform,
        "--format",
        "pylock.toml",
    ]
    command += ["--find-links", find_links] if find_links and target.extra == CPU else []
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # the oldest system torch is built for
    answer = subprocess.run(
        command, input="\n".join(requirements), capture_output=True, text=True, check=True, env=environment
    )
    return tomllib.loads(answer.stdout)["packages"]


def as_requirements(packages: list[dict]) -> str:
    """Packages -> the text of a pip requirement file with hashes."""
    lines = [
        "# Written by make_locks.py; install with: pip install --only-binary :all: --require-hashes -r FILE"
    ]
    for package in packages:
        hashes = sorted(wheel["hashes"]["sha256"] for wheel in package["wheels"])
        lines.append(f"{package['name']}=={package['version']} \\")
        lines.append(" \\\n".join(f"    --hash=sha256:{value}" for value in hashes))
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the named lock files, or all; the number of targets that could not be had is the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument(
        "--find-links", help="folder with files that no index offers, such as torch's CPU builds"
    )
    arguments = parser.parse_args()
    missing = 0
    for name in arguments.names or TARGETS:
        path = HERE / f"{name}.txt"
        try:
            packages = resolve(TARGETS[name], arguments.find_links)
        except subprocess.CalledProcessError as error:
            missing += 1
            path.unlink(missing_ok=True)
            print(f"{name}: cannot be had\n{error.stderr.strip()}", file=sys.stderr)
            continue
        path.write_text(as_requirements(packages), encoding="utf-8", newline="\n")
        print(f"{name}: {len(packages)} packages")
    return missing


if __name__ == "__main__":
    sys.exit(main())
