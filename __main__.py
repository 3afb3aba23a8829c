# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m maquette VERB ...`: the command line without Blender."""

import sys

from .core.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
