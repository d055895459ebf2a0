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
  target_link_libraries(${target} PRIVATE disco_flags tvm_ffi::header disco_jansson ${CMAKE_DL_LIBS})
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
  # Tells the C++ headers that the library is linked, so that they name a symbol of it and no linker drops it.
  target_compile_definitions(${target} INTERFACE $<INSTALL_INTERFACE:DISCO_CPP_LINK>)
  target_link_libraries(${target} PUBLIC tvm_ffi::shared)
endforeach()
set(library_version ${PROJECT_VERSION})
if(DISCO_WHEEL)
  set(library_version 0) # a wheel holds no links: there the file itself is libdisco.so.0, the name that loaders look for
endif()
set_target_properties(
  disco_shared
  PROPERTIES EXPORT_NAME disco
             VERSION ${library_version}
             SOVERSION 0
             LINK_DEPENDS ${version_map})
set_target_properties(disco_static PROPERTIES EXPORT_NAME static EXCLUDE_FROM_ALL ${DISCO_WHEEL})
# nodelete: worker threads, TVM-FFI's type table and the exit hook point into the library for the life of the process.
target_link_options(disco_shared PRIVATE -Wl,--version-script=${version_map} -Wl,-z,nodelete ${disco_lto_link})
target_link_libraries(disco_shared PRIVATE disco_flags disco_jansson ${CMAKE_DL_LIBS})
if(DISCO_STATIC_DEPS)
  target_sources(disco_shared PRIVATE cmake/wheel/stdin.c)
  target_link_options(disco_shared PRIVATE -Wl,--wrap=stdin)
endif()
# By name: the installed package must not remember where this machine has it.
target_link_libraries(disco_static PUBLIC ${JANSSON_LIBRARIES} Threads::Threads ${CMAKE_DL_LIBS})
if(disco_lto_link)
  # Ordinary objects for whoever links them: gcc's own format makes every such link optimise the library anew, and fails
  # with any other version of gcc.
  add_custom_command(
    TARGET disco_static
    POST_BUILD
    COMMAND ${CMAKE_OBJCOPY} --remove-section=.gnu.lto_* --remove-section=.gnu.debuglto_* --strip-symbol=__gnu_lto_v1
            --strip-symbol=__gnu_lto_slim $<TARGET_FILE:disco_static>
    VERBATIM)
endif()
add_library(disco::disco ALIAS disco_shared)
add_library(disco::static ALIAS disco_static)

# The C++ face: headers only. It finds libdisco's functions by name in the process, so it links none of the two; a
# program takes disco::disco beside it, a module of a process that has libdisco does not need to.
add_library(disco_cpp INTERFACE)
set_target_properties(disco_cpp PROPERTIES EXPORT_NAME cpp)
target_include_directories(
  disco_cpp INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include/disco/cpp> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                      $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/disco/cpp> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(disco_cpp INTERFACE cxx_std_17)
target_link_libraries(disco_cpp INTERFACE tvm_ffi::header)
add_library(disco::cpp ALIAS disco_cpp)

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
