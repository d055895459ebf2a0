# Tests: each *_test.c is one program and one ctest test.
#   src/<room>/x_test.c      unit test, beside its source         -> test unit.<room>.x,   label unit
#   tests/<suite>/x_test.c   suite that cuts across rooms         -> test <suite>.x,       label suite
#   tests/<suite>/*.c        (others) helpers of that suite, compiled once
# A suite folder with a CMakeLists.txt of its own describes itself (with disco_add_test, if it likes).
# All link disco_internal as a whole: hidden functions are reachable, pause and failure points are in.
find_package(cmocka CONFIG QUIET)
if(NOT TARGET cmocka::cmocka)
  find_path(DISCO_CMOCKA_INCLUDE_DIR cmocka.h)
  find_library(DISCO_CMOCKA_LIBRARY cmocka)
  if(NOT DISCO_CMOCKA_INCLUDE_DIR OR NOT DISCO_CMOCKA_LIBRARY)
    message(FATAL_ERROR "The tests need cmocka: apt-get install libcmocka-dev (scripts/setup does it), "
                        "or configure with -DDISCO_TESTS=OFF")
  endif()
  add_library(cmocka::cmocka UNKNOWN IMPORTED)
  set_target_properties(cmocka::cmocka PROPERTIES IMPORTED_LOCATION ${DISCO_CMOCKA_LIBRARY}
                                                  INTERFACE_INCLUDE_DIRECTORIES ${DISCO_CMOCKA_INCLUDE_DIR})
endif()

# What every test finds in its environment. Tests divide their counts by DISCO_TEST_SCALE.
set(disco_test_environment "DISCO_LIBRARY=$<TARGET_FILE:disco_shared>" "DISCO_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
                           "DISCO_BINARY_DIR=${PROJECT_BINARY_DIR}")
set(tools ${PROJECT_SOURCE_DIR}/tools)
if(DISCO_SANITIZE)
  list(APPEND disco_test_environment DISCO_TEST_SCALE=20)
else()
  list(APPEND disco_test_environment DISCO_TEST_SCALE=1)
endif()
if(DISCO_SANITIZE MATCHES "thread")
  list(APPEND disco_test_environment
       "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=${tools}/tsan.supp")
elseif(DISCO_SANITIZE)
  list(APPEND disco_test_environment
       "ASAN_OPTIONS=halt_on_error=1:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1"
       "UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1")
  if(EXISTS ${tools}/lsan.supp)
    list(APPEND disco_test_environment "LSAN_OPTIONS=print_suppressions=0:suppressions=${tools}/lsan.supp")
  endif()
endif()

# disco_set_test_properties(<test> label...): what every test has
function(disco_set_test_properties test)
  set_tests_properties(${test} PROPERTIES TIMEOUT 120 ENVIRONMENT "${disco_test_environment}" LABELS "${ARGN}")
endfunction()

# disco_add_test(<test> SOURCES file... [LABELS label...] [LINK library...])
# LINK: what to link instead of disco_internal (disco::disco for the library as users see it, nothing but libc: none).
function(disco_add_test test)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LABELS;LINK")
  string(REPLACE "." "_" target ${test})
  add_executable(${target} ${arg_SOURCES})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  target_compile_definitions(${target} PRIVATE ${DISCO_DEFINITIONS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/tests)
  if(NOT arg_LINK)
    target_compile_definitions(${target} PRIVATE DISCO_INJECT=1)
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
    # As a whole: load-time constructors of the library must run in the test as they do in libdisco.so.
    target_link_libraries(${target} PRIVATE "$<LINK_LIBRARY:WHOLE_ARCHIVE,disco_internal>" tvm_ffi::shared)
  elseif(NOT arg_LINK STREQUAL "none")
    target_link_libraries(${target} PRIVATE ${arg_LINK})
  endif()
  target_link_libraries(${target} PRIVATE cmocka::cmocka disco_flags ${CMAKE_DL_LIBS} m)
  add_test(NAME ${test} COMMAND ${target})
  disco_set_test_properties(${test} ${arg_LABELS})
endfunction()

foreach(room IN LISTS DISCO_ROOMS)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS src/${room}/*_test.c)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM stem)
    string(REGEX REPLACE "_test$" "" stem ${stem})
    disco_add_test(unit.${room}.${stem} SOURCES ${source} LABELS unit ${room})
  endforeach()
endforeach()

file(GLOB suite_dirs CONFIGURE_DEPENDS LIST_DIRECTORIES true tests/*)
foreach(dir IN LISTS suite_dirs)
  cmake_path(GET dir FILENAME suite)
  if(EXISTS ${dir}/CMakeLists.txt)
    add_subdirectory(${dir})
    continue()
  endif()
  file(GLOB tests CONFIGURE_DEPENDS ${dir}/*_test.c)
  file(GLOB helpers CONFIGURE_DEPENDS ${dir}/*.c)
  list(FILTER helpers EXCLUDE REGEX "_test\\.c$")
  if(NOT tests)
    continue()
  endif()
  if(helpers)
    add_library(suite_${suite} OBJECT ${helpers})
    target_compile_definitions(suite_${suite} PRIVATE ${DISCO_DEFINITIONS} DISCO_INJECT=1)
    target_include_directories(suite_${suite} PRIVATE include src tests)
    target_link_libraries(suite_${suite} PRIVATE disco_flags tvm_ffi::header cmocka::cmocka)
    set(helpers $<TARGET_OBJECTS:suite_${suite}>)
  endif()
  foreach(source IN LISTS tests)
    cmake_path(GET source STEM stem)
    string(REGEX REPLACE "_test$" "" stem ${stem})
    disco_add_test(${suite}.${stem} SOURCES ${source} ${helpers} LABELS suite ${suite})
  endforeach()
endforeach()

# What no sanitizer can see runs once: the models of the protocols, and the tests of the checks themselves.
if(NOT DISCO_SANITIZE)
  if(EXISTS ${PROJECT_SOURCE_DIR}/models/check)
    add_test(NAME models.check COMMAND ${PROJECT_SOURCE_DIR}/models/check)
    disco_set_test_properties(models.check models)
    set_tests_properties(models.check PROPERTIES TIMEOUT 600)
  endif()
endif()
