# SPDX-License-Identifier: Apache-2.0
"""Random changes of training samples: crops, and named presets made of MONAI's transforms."""
