# SPDX-License-Identifier: GPL-3.0-or-later
"""The autoencoder of Stable Diffusion (Rombach et al. 2022, KL-f8): pictures <-> latents, in every published layout."""
