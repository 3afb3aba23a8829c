# SPDX-License-Identifier: GPL-3.0-or-later
"""3D-aware blending with generative NeRFs (Kim et al. 2023, arXiv 2302.06608): what does not depend on the generator."""
