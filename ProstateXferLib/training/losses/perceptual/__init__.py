# SPDX-License-Identifier: Apache-2.0
"""The loss that compares DINOv3 tokens of a synthetic and a true CT slice (DGCF's MLDP)."""
