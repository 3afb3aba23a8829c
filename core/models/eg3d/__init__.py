# SPDX-License-Identifier: GPL-3.0-or-later
"""EG3D (Chan et al., CVPR 2022): a generator of heads as tri-planes, and its camera and latent encoder."""
