# Programs: the schema's printer, the command line, one program per folder of examples (or what its CMakeLists.txt
# says), and the benchmarks.
# Those of users (cli, examples) see include/disco only.
file(GLOB cli_sources CONFIGURE_DEPENDS cli/*.c)
list(FILTER cli_sources EXCLUDE REGEX "_test\\.c$")
if(cli_sources)
  add_executable(disco_cli ${cli_sources})
  set_target_properties(disco_cli PROPERTIES OUTPUT_NAME disco)
  target_link_libraries(disco_cli PRIVATE disco::disco disco_flags)
endif()
if(DISCO_WHEEL)
  return()
endif()

file(GLOB example_dirs CONFIGURE_DEPENDS LIST_DIRECTORIES true examples/*)
foreach(dir IN LISTS example_dirs)
  cmake_path(GET dir FILENAME name)
  if(EXISTS ${dir}/CMakeLists.txt)
    add_subdirectory(${dir})
    continue()
  endif()
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.c)
  if(sources)
    add_executable(${name} ${sources})
    target_link_libraries(${name} PRIVATE disco::disco disco_flags)
  endif()
endforeach()

# Prints docs/protocol.md from the one list of messages.
if(EXISTS ${PROJECT_SOURCE_DIR}/src/wire/schema_print.c)
  add_executable(disco-schema src/wire/schema_print.c)
  target_compile_definitions(disco-schema PRIVATE ${DISCO_DEFINITIONS})
  target_include_directories(disco-schema PRIVATE include src)
  target_link_libraries(disco-schema PRIVATE disco_static disco_flags)
endif()

if(EXISTS ${PROJECT_SOURCE_DIR}/bench/CMakeLists.txt)
  add_subdirectory(bench)
endif()
