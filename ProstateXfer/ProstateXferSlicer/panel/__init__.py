# SPDX-License-Identifier: Apache-2.0
"""The panel: one class for each section, and what they share. The only folder that knows Qt widgets."""
