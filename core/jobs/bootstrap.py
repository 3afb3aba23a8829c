# SPDX-License-Identifier: GPL-3.0-or-later
"""First file of every engine process: `PYTHON -I -X utf8 bootstrap.py MODULE ARGUMENT...` runs `maquette.MODULE.main`.

It gives the add-on's folder, wherever that lies and whatever it is called there, the package name `maquette`, so relative
imports work and nothing of Blender's is needed. The folder is found from this file's own place. A process that
`multiprocessing` spawns from such a process imports this file again and so finds the package too.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def load_package() -> None:
    """Make the folder above importable as `maquette`."""
    if "maquette" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "maquette", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None, ROOT
    package = importlib.util.module_from_spec(spec)
    sys.modules["maquette"] = package
    spec.loader.exec_module(package)


load_package()

if __name__ == "__main__":
    sys.exit(importlib.import_module(f"maquette.{sys.argv[1]}").main(sys.argv[2:]))
