# libdisco.so and libdisco.a from one set of objects, and disco_internal: the same sources with the tests' pause and
# failure points compiled in, all functions reachable.
set(DISCO_ROOMS base os ffi wire channel ccl weights worker builtin session api)
set(disco_sources)
foreach(room IN LISTS DISCO_ROOMS)
  file(GLOB_RECURSE found CONFIGURE_DEPENDS src/${room}/*.c)
  list(APPEND disco_sources ${found})
endforeach()
list(FILTER disco_sources EXCLUDE REGEX "_test\\.c$")
# A program of its own (see DiscoPrograms).
list(FILTER disco_sources EXCLUDE REGEX "/wire/schema_print\\.c$")

# JSON of weight files and shard plans. Its CMake package is missing in Debian 12, its pkg-config file is everywhere.
find_package(PkgConfig REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson>=2.12)
find_path(DISCO_XXHASH_INCLUDE_DIR xxhash.h REQUIRED) # compiled in: no library to find at run time

# C11 without compiler extensions, but glibc's functions (memfd_create, vasprintf). Empty, so that a file may say
# `#define _GNU_SOURCE` itself without redefining it.
set(DISCO_DEFINITIONS _GNU_SOURCE=)

# gcc's address sanitizer aligns its own stack to 32 bytes at most, less than a vector of 64 wants.
if(DISCO_SANITIZE MATCHES "address" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  set_source_files_properties(${PROJECT_SOURCE_DIR}/src/ccl/reduce_avx512.c PROPERTIES COMPILE_OPTIONS "--param;asan-stack=0")
endif()

function(disco_configure_objects target inject)
  target_compile_definitions(${target} PRIVATE ${DISCO_DEFINITIONS} $<$<BOOL:${inject}>:DISCO_INJECT=1>)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  target_include_directories(${target} SYSTEM PRIVATE ${DISCO_XXHASH_INCLUDE_DIR})
  target_link_libraries(${target} PRIVATE disco_flags tvm_ffi::header PkgConfig::JANSSON ${CMAKE_DL_LIBS})
endfunction()

add_library(disco_objects OBJECT ${disco_sources})
disco_configure_objects(disco_objects ${DISCO_INJECT})
# A call passes api, session, wire and channel: optimised as one program it costs a quarter less. Fat objects, so that
# the static library serves compilers that do not know gcc's format.
if(DISCO_LTO AND CMAKE_C_COMPILER_ID STREQUAL "GNU" AND NOT DISCO_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_options(disco_objects PRIVATE -O3 -flto=auto -ffat-lto-objects)
  set(disco_lto_link -flto=auto)
endif()

set(version_map ${PROJECT_SOURCE_DIR}/src/api/libdisco.map)
foreach(kind IN ITEMS shared static)
  string(TOUPPER ${kind} KIND)
  set(target disco_${kind})
  add_library(${target} ${KIND} $<TARGET_OBJECTS:disco_objects>)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME disco LINKER_LANGUAGE C)
  target_include_directories(${target} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                                 $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${target} PUBLIC tvm_ffi::shared)
endforeach()
set_target_properties(
  disco_shared
  PROPERTIES EXPORT_NAME disco
             VERSION ${PROJECT_VERSION}
             SOVERSION 0
             LINK_DEPENDS ${version_map})
# nodelete: worker threads, TVM-FFI's type table and the exit hook point into the library for the life of the process.
target_link_options(disco_shared PRIVATE -Wl,--version-script=${version_map} -Wl,-z,nodelete ${disco_lto_link})
target_link_libraries(disco_shared PRIVATE disco_flags ${JANSSON_LINK_LIBRARIES} ${CMAKE_DL_LIBS})
# By name: the installed package must not remember where this machine has it.
target_link_libraries(disco_static PUBLIC ${JANSSON_LIBRARIES} Threads::Threads ${CMAKE_DL_LIBS})
add_library(disco::disco ALIAS disco_shared)

if(DISCO_TESTS)
  if(DISCO_INJECT)
    add_library(disco_internal STATIC $<TARGET_OBJECTS:disco_objects>)
  else()
    add_library(disco_internal STATIC ${disco_sources})
    disco_configure_objects(disco_internal TRUE)
  endif()
  target_link_libraries(disco_internal INTERFACE ${JANSSON_LINK_LIBRARIES})
  set_target_properties(disco_internal PROPERTIES LINKER_LANGUAGE C ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
endif()
