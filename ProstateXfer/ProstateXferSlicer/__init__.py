# SPDX-License-Identifier: Apache-2.0
"""What of ProstateXfer knows Slicer: nodes and files (`scene`), child processes (`work`), the panel (`panel`)."""
