# SPDX-License-Identifier: Apache-2.0
"""Child processes that run the library: started, listened to and stopped. No MRML; Qt in `qt_process` alone."""
