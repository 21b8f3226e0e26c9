# SPDX-License-Identifier: Apache-2.0
"""Cases and models of which the best ensemble is known: a gland that grows as a threshold falls."""
