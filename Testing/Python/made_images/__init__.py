# SPDX-License-Identifier: Apache-2.0
"""Images made for tests: grids in every direction, voxels whose truth is known, one image stored in many ways."""
