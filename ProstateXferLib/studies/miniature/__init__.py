# SPDX-License-Identifier: Apache-2.0
"""The comparison of MR-DINOv3's paper in miniature, on the data at hand."""
