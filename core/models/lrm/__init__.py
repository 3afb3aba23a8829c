# SPDX-License-Identifier: GPL-3.0-or-later
"""Large reconstruction models: one picture -> tri-plane (Hong et al. 2023, LRM), as TripoSR and as OpenLRM."""
