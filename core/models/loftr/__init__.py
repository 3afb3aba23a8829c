# SPDX-License-Identifier: GPL-3.0-or-later
"""LoFTR (Sun et al. 2021): dense matching of two pictures without a feature detector."""
