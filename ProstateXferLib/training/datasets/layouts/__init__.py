# SPDX-License-Identifier: Apache-2.0
"""One adapter a file: which cases lie in a folder of that layout."""
