# SPDX-License-Identifier: Apache-2.0
"""nnU-Net results folders made for a purpose."""
