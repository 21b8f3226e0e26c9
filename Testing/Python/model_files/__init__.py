# SPDX-License-Identifier: Apache-2.0
"""Files of models made for a purpose: a registry, a pickle that would run something."""
