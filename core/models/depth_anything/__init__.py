# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth Anything 3 (2025), Small and Base: unposed pictures -> depth, rays and cameras in one pass."""
