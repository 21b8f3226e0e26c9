# SPDX-License-Identifier: Apache-2.0
# Stands in for Slicer where there is none: `cmake -S . -B build/ctest -DSlicer_DIR=Testing/CMake/stub` copies, installs
# and tests the extension with plain CMake. Folders, macro names and arguments are Slicer 5.12's.
set(Slicer_IS_STUB TRUE)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.12/qt-scripted-modules")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
# Packaging and the description for other extensions are Slicer's own business.
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
