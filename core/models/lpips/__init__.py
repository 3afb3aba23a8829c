# SPDX-License-Identifier: GPL-3.0-or-later
"""LPIPS (Zhang et al. 2018) with VGG16, for artists who have its weights."""
