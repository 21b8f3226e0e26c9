# SPDX-License-Identifier: Apache-2.0
# Builds and installs anew: a file that is no longer listed must not be left over from the last time.
file(REMOVE_RECURSE "${BUILD_DIR}/${MODULES}" "${INSTALL_DIR}")
foreach(step "--build;${BUILD_DIR}" "--install;${BUILD_DIR};--prefix;${INSTALL_DIR}")
  execute_process(COMMAND ${CMAKE_COMMAND} ${step} RESULT_VARIABLE result OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "cmake ${step} has failed:\n${said}")
  endif()
endforeach()
