# TVM-FFI comes from the wheel apache-tvm-ffi: headers, library and a CMake package in one. This finds the Python that
# has it (-DPython_EXECUTABLE=..., else the tree's own .venv, else python3), checks the version, and gives
#   tvm_ffi::header, tvm_ffi::shared     the wheel's targets; imported, so their headers are system headers
#   DISCO_TVM_FFI_INCLUDE_DIR, DISCO_TVM_FFI_LIBRARY, DISCO_TVM_FFI_LIB_DIR, DISCO_TVM_FFI_VERSION
set(DISCO_TVM_FFI_MINIMUM 0.1.14.post0)
# The newest tested is the one that scripts/setup installs.
file(STRINGS ${PROJECT_SOURCE_DIR}/scripts/requirements.txt DISCO_TVM_FFI_TESTED REGEX "^apache-tvm-ffi==")
string(REPLACE "apache-tvm-ffi==" "" DISCO_TVM_FFI_TESTED ${DISCO_TVM_FFI_TESTED})

if(NOT Python_EXECUTABLE AND EXISTS ${PROJECT_SOURCE_DIR}/.venv/bin/python)
  set(Python_EXECUTABLE ${PROJECT_SOURCE_DIR}/.venv/bin/python CACHE FILEPATH "The Python that has apache-tvm-ffi")
endif()
find_package(Python COMPONENTS Interpreter)
set(how_to_get "  python3 -m venv .venv && .venv/bin/python -m pip install apache-tvm-ffi==${DISCO_TVM_FFI_TESTED}\n"
               "in ${PROJECT_SOURCE_DIR} (scripts/setup does just that), or name a Python that has it:\n"
               "  cmake -DPython_EXECUTABLE=/path/to/python ...")
string(CONCAT how_to_get ${how_to_get})
if(NOT Python_FOUND)
  message(FATAL_ERROR "libdisco needs the Python wheel apache-tvm-ffi, and there is no Python 3 here. Install python3 "
                      "and python3-venv, then run\n${how_to_get}")
endif()

execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import importlib.metadata as m; print(m.version('apache-tvm-ffi'))"
  RESULT_VARIABLE result
  OUTPUT_VARIABLE DISCO_TVM_FFI_VERSION
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "libdisco needs the Python wheel apache-tvm-ffi >= ${DISCO_TVM_FFI_MINIMUM}, and "
                      "${Python_EXECUTABLE} does not have it. Run\n${how_to_get}")
endif()

# 0.1.14.post0 -> 0.1.14.1: CMake compares numbers only, and a post release is newer than its base.
function(comparable version ret)
  if(version MATCHES "^([0-9.]+[0-9])\\.post([0-9]+)$")
    math(EXPR post "${CMAKE_MATCH_2} + 1")
    set(${ret} ${CMAKE_MATCH_1}.${post} PARENT_SCOPE)
  else()
    set(${ret} ${version} PARENT_SCOPE)
  endif()
endfunction()
comparable(${DISCO_TVM_FFI_VERSION} have)
comparable(${DISCO_TVM_FFI_MINIMUM} minimum)
comparable(${DISCO_TVM_FFI_TESTED} tested)
if(have VERSION_LESS minimum)
  message(FATAL_ERROR "libdisco needs apache-tvm-ffi >= ${DISCO_TVM_FFI_MINIMUM}; ${Python_EXECUTABLE} has "
                      "${DISCO_TVM_FFI_VERSION}. Run\n${how_to_get}")
elseif(have VERSION_GREATER tested)
  message(STATUS "apache-tvm-ffi ${DISCO_TVM_FFI_VERSION} is newer than the newest tested, ${DISCO_TVM_FFI_TESTED}")
endif()

# Always asked anew: the environment may have moved since the last configuration.
execute_process(
  COMMAND ${Python_EXECUTABLE} -m tvm_ffi.config --cmakedir
  OUTPUT_VARIABLE tvm_ffi_ROOT
  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
unset(tvm_ffi_DIR CACHE)
find_package(tvm_ffi CONFIG REQUIRED)

get_target_property(DISCO_TVM_FFI_LIBRARY tvm_ffi::shared IMPORTED_LOCATION)
get_target_property(DISCO_TVM_FFI_INCLUDE_DIR tvm_ffi::shared INTERFACE_INCLUDE_DIRECTORIES)
list(GET DISCO_TVM_FFI_INCLUDE_DIR 0 DISCO_TVM_FFI_INCLUDE_DIR)
cmake_path(GET DISCO_TVM_FFI_LIBRARY PARENT_PATH DISCO_TVM_FFI_LIB_DIR)
message(STATUS "apache-tvm-ffi ${DISCO_TVM_FFI_VERSION}: ${DISCO_TVM_FFI_LIBRARY}")
