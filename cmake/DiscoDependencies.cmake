# What libdisco needs of the system beside TVM-FFI, and a sentence that names the package where something is missing.
#   disco_jansson                JSON of weight files and shard plans; static with DISCO_STATIC_DEPS
#   JANSSON_LINK_LIBRARIES       the same library as a path
#   DISCO_XXHASH_INCLUDE_DIR     xxhash.h; compiled in: no library to find at run time
set(DISCO_JANSSON_MINIMUM 2.12)

# disco_missing(<what> <Debian package>)
function(disco_missing what package)
  message(FATAL_ERROR "libdisco needs ${what}, and it is not here. On Debian:\n  apt-get install ${package}\n"
                      "elsewhere install it, and where CMake does not look by itself add -DCMAKE_PREFIX_PATH=...")
endfunction()

# The CMake package is missing in Debian 12, the pkg-config file is everywhere; without pkg-config (a wheel built with
# little more than a compiler) the header and the library are enough.
find_package(PkgConfig QUIET)
if(PKG_CONFIG_FOUND)
  pkg_check_modules(JANSSON QUIET IMPORTED_TARGET jansson>=${DISCO_JANSSON_MINIMUM})
endif()
find_path(DISCO_JANSSON_INCLUDE_DIR jansson.h HINTS ${JANSSON_INCLUDE_DIRS} ${JANSSON_INCLUDEDIR})
find_library(DISCO_JANSSON_LIBRARY jansson HINTS ${JANSSON_LIBRARY_DIRS} ${JANSSON_LIBDIR})
if(NOT DISCO_JANSSON_INCLUDE_DIR OR NOT DISCO_JANSSON_LIBRARY)
  disco_missing("jansson >= ${DISCO_JANSSON_MINIMUM} (jansson.h and its library)" libjansson-dev)
endif()
if(NOT JANSSON_FOUND)
  file(STRINGS ${DISCO_JANSSON_INCLUDE_DIR}/jansson.h version REGEX "^#define JANSSON_VERSION \"")
  string(REGEX MATCH "[0-9.]+" version "${version}")
  if(version VERSION_LESS DISCO_JANSSON_MINIMUM)
    message(FATAL_ERROR "libdisco needs jansson >= ${DISCO_JANSSON_MINIMUM}; ${DISCO_JANSSON_INCLUDE_DIR} has "
                        "${version}")
  endif()
  set(JANSSON_LIBRARIES jansson)
  set(JANSSON_LINK_LIBRARIES ${DISCO_JANSSON_LIBRARY})
endif()
if(DISCO_STATIC_DEPS)
  find_library(DISCO_JANSSON_STATIC_LIBRARY libjansson.a HINTS ${JANSSON_LIBRARY_DIRS} ${JANSSON_LIBDIR})
  if(NOT DISCO_JANSSON_STATIC_LIBRARY)
    disco_missing("jansson's static library, libjansson.a (position independent)" libjansson-dev)
  endif()
  set(JANSSON_LINK_LIBRARIES ${DISCO_JANSSON_STATIC_LIBRARY})
endif()
add_library(disco_jansson INTERFACE)
target_include_directories(disco_jansson SYSTEM INTERFACE ${DISCO_JANSSON_INCLUDE_DIR})
target_link_libraries(disco_jansson INTERFACE ${JANSSON_LINK_LIBRARIES})

find_path(DISCO_XXHASH_INCLUDE_DIR xxhash.h)
if(NOT DISCO_XXHASH_INCLUDE_DIR)
  disco_missing("xxHash >= 0.8 (xxhash.h)" libxxhash-dev)
endif()
mark_as_advanced(DISCO_JANSSON_INCLUDE_DIR DISCO_JANSSON_LIBRARY DISCO_JANSSON_STATIC_LIBRARY DISCO_XXHASH_INCLUDE_DIR)
