# SPDX-License-Identifier: Apache-2.0
"""A digital pelvis with exact truth: T2w MR, CT and CBCT of the same seeded anatomy on any grid."""

from ProstateXferLib.images.phantom.anatomy import Phantom, Truth, make_phantom
from ProstateXferLib.images.phantom.cbct import simulate_cbct
from ProstateXferLib.images.phantom.render import PhantomStudy, default_ct_grid, default_grid

__all__ = ["Phantom", "PhantomStudy", "Truth", "default_ct_grid", "default_grid", "make_phantom", "simulate_cbct"]
