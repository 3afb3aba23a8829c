# SPDX-License-Identifier: GPL-3.0-or-later
"""A radiance field and a pose encoder trained together inside a diffusion process (Yuan, Hanocka, Maire 2024)."""
