# SPDX-License-Identifier: Apache-2.0
"""Recipes, data, losses and the training loop; reached through `prostatexfer train`."""
