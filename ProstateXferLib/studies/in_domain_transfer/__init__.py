# SPDX-License-Identifier: Apache-2.0
"""The in-domain transfer paper's protocol: every chain of sites, trained and tested, and its two tables."""
