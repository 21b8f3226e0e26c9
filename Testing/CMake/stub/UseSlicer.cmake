# SPDX-License-Identifier: Apache-2.0
# The macros of Slicer that the extension calls. Python tests run in the Python of `make test`, on the host of
# Testing/Python/slicer_host, and on what `cmake --install` has put into ${Slicer_STUB_INSTALL_DIR}.
option(BUILD_TESTING "Register the tests" ON)
if(BUILD_TESTING)
  enable_testing()
  find_package(Python3 3.11 REQUIRED COMPONENTS Interpreter)
endif()

set(Slicer_STUB_INSTALL_DIR "${CMAKE_BINARY_DIR}/install")
set(Slicer_STUB_MODULE_DIR "${Slicer_STUB_INSTALL_DIR}/${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}")
set(Slicer_STUB_DIR "${CMAKE_CURRENT_LIST_DIR}")

# As in Slicer: the paths of the files are kept, below a folder of this folder's name when WITH_SUBDIR is given; the
# install rule takes the whole folder of the build tree.
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS OR NOT MY_NAME OR NOT MY_SCRIPTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: NAME and SCRIPTS are needed; unknown: '${MY_UNPARSED_ARGUMENTS}'")
  endif()
  set(destination "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  set(installed "${destination}/")
  if(MY_WITH_SUBDIR)
    get_filename_component(subdir "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    set(destination "${destination}/${subdir}")
    set(installed "${destination}")
  endif()
  set(copies)
  foreach(file IN LISTS MY_SCRIPTS MY_RESOURCES)
    set(source "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
    if(IS_ABSOLUTE "${file}" OR NOT EXISTS "${source}" OR IS_DIRECTORY "${source}")
      message(FATAL_ERROR "${MY_NAME}: there is no file '${file}' in ${CMAKE_CURRENT_SOURCE_DIR} (make lists)")
    endif()
    add_custom_command(OUTPUT "${destination}/${file}" DEPENDS "${source}" VERBATIM
      COMMAND ${CMAKE_COMMAND} -E copy "${source}" "${destination}/${file}")
    list(APPEND copies "${destination}/${file}")
  endforeach()
  add_custom_target(Copy${MY_NAME} ALL DEPENDS ${copies})
  install(DIRECTORY "${installed}" DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}" USE_SOURCE_PERMISSIONS)
  if(BUILD_TESTING AND MY_WITH_GENERIC_TESTS)
    slicer_stub_add_test(py_nomainwindow_qSlicer${MY_NAME}ModuleGenericTest generic "${MY_NAME}")
  endif()
endfunction()

# Slicer looks for the test classes in the file; so does the host. Arguments for Slicer's own command line mean nothing here.
function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  get_filename_component(name "${MY_SCRIPT}" NAME_WE)
  slicer_stub_add_test(py_${MY_TESTNAME_PREFIX}${name} unittest "${name}" "${CMAKE_CURRENT_SOURCE_DIR}")
endfunction()

function(slicer_add_python_test)
  cmake_parse_arguments(MY "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS;SCRIPT_ARGS" ${ARGN})
  get_filename_component(name "${MY_SCRIPT}" NAME_WE)
  get_filename_component(script "${MY_SCRIPT}" ABSOLUTE)
  slicer_stub_add_test(py_${MY_TESTNAME_PREFIX}${name} script "${script}" ${MY_SCRIPT_ARGS})
endfunction()

function(slicer_stub_add_test name)
  add_test(NAME ${name} COMMAND ${Python3_EXECUTABLE} "${Slicer_STUB_DIR}/run_on_host.py" ${ARGN})
  slicer_stub_run_installed(${name})
  set_tests_properties(${name} PROPERTIES LABELS module RUN_SERIAL TRUE SKIP_RETURN_CODE 77)
endfunction()

# Run a test on the installed tree: it comes first on the path, before an editable install of the checkout, and the
# current folder, which children of the tests look into as well, is not the checkout.
function(slicer_stub_run_installed name)
  set_tests_properties(${name} PROPERTIES
    FIXTURES_REQUIRED installed_tree
    WORKING_DIRECTORY "${CMAKE_BINARY_DIR}"
    ENVIRONMENT "PYTHONPATH=${Slicer_STUB_MODULE_DIR};PROSTATEXFER_MODULE_DIR=${Slicer_STUB_MODULE_DIR}")
endfunction()

if(BUILD_TESTING)
  add_test(NAME installed_tree COMMAND ${CMAKE_COMMAND} -D BUILD_DIR=${CMAKE_BINARY_DIR}
    -D INSTALL_DIR=${Slicer_STUB_INSTALL_DIR} -D MODULES=${Slicer_QTSCRIPTEDMODULES_LIB_DIR}
    -P "${Slicer_STUB_DIR}/install_tree.cmake")
  set_tests_properties(installed_tree PROPERTIES FIXTURES_SETUP installed_tree)
endif()
