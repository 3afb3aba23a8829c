# SPDX-License-Identifier: GPL-3.0-or-later
"""SparseNeuS (Long et al. 2022) as One-2-3-45 (Liu et al. 2023) uses it: posed pictures -> signed distance and colour."""
