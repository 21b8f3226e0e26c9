# SPDX-License-Identifier: Apache-2.0
"""What a stage can learn: segmentation, synthesis, self-supervision; one engine trains them all."""
