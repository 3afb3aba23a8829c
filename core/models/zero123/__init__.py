# SPDX-License-Identifier: GPL-3.0-or-later
"""Zero123 (Liu et al. 2023): one picture and a change of camera -> the picture from there."""
