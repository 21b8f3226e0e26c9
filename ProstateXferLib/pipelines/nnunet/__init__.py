# SPDX-License-Identifier: Apache-2.0
"""nnU-Net v2's way from an image to labels, step by step and to the bit (specification 4.2 to 4.4)."""
