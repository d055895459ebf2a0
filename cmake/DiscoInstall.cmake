# What `make install` puts where: libraries, headers, the command, pkg-config files, the CMake package. Everything is
# found relative to the installed files, so a tree may be moved (DESTDIR, PREFIX), but for TVM-FFI: its wheel stays where
# it was at build time unless the user names another.
#
# With DISCO_WHEEL the prefix is the folder of the Python package, and TVM-FFI's package is the folder beside it. There
# is no static library then, and the files that belong beside Python's own (man page, completion, the command's
# launcher) go where the wheel's schemes put them.
include(CMakePackageConfigHelpers)

if(DISCO_WHEEL)
  set(DISCO_INSTALL_RPATH "$ORIGIN/../../tvm_ffi/lib")
  set(data_dir ${SKBUILD_DATA_DIR}/share)
  set(man_dir ${data_dir}/man)
else()
  # Lets the installed libdisco.so find the wheel's libtvm_ffi.so in a program that does not know of it.
  set(DISCO_INSTALL_RPATH ${DISCO_TVM_FFI_LIB_DIR} CACHE STRING "RUNPATH of the installed libdisco.so; may be empty")
  set(data_dir ${CMAKE_INSTALL_DATADIR})
  set(man_dir ${CMAKE_INSTALL_MANDIR})
endif()
set_target_properties(disco_shared PROPERTIES INSTALL_RPATH "${DISCO_INSTALL_RPATH}")
if(DISCO_WHEEL OR DISCO_INSTALL_RPATH STREQUAL DISCO_TVM_FFI_LIB_DIR)
  # Otherwise CMake pads the build tree's RUNPATH for later editing, and its empty last entry is the current directory.
  set_target_properties(disco_shared PROPERTIES BUILD_WITH_INSTALL_RPATH ON)
endif()

# One export per component of find_package(disco COMPONENTS ...): a tree has those whose files it has.
install(TARGETS disco_cpp EXPORT disco-cpp-targets)
if(DISCO_WHEEL)
  install(TARGETS disco_shared EXPORT disco-shared-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} NAMELINK_SKIP)
  # What -ldisco finds, in place of a link.
  install(FILES cmake/wheel/libdisco.ldscript DESTINATION ${CMAKE_INSTALL_LIBDIR} RENAME libdisco.so)
else()
  install(TARGETS disco_shared EXPORT disco-shared-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(TARGETS disco_static EXPORT disco-static-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
endif()
install(DIRECTORY include/disco DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
if(TARGET disco_cli)
  # It names libtvm_ffi.so itself, so libdisco's RUNPATH does not help it.
  set(command_rpath $ORIGIN/../${CMAKE_INSTALL_LIBDIR} ${DISCO_INSTALL_RPATH})
  set_target_properties(disco_cli PROPERTIES EXPORT_NAME command INSTALL_RPATH "${command_rpath}")
  install(TARGETS disco_cli EXPORT disco-command-targets RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(FILES docs/man/disco.1 DESTINATION ${man_dir}/man1)
  install(FILES cli/completion/disco.bash DESTINATION ${data_dir}/bash-completion/completions RENAME disco)
endif()
if(SKBUILD_SCRIPTS_DIR)
  install(PROGRAMS python/libdisco/_command.py DESTINATION ${SKBUILD_SCRIPTS_DIR} RENAME disco)
endif()

# Where the CMake package looks for the Python that has TVM-FFI, if nobody says.
set(DISCO_CONFIG_PYTHONS "\"${Python_EXECUTABLE}\"")
if(DISCO_WHEEL)
  set(DISCO_CONFIG_PYTHONS "\"\${PACKAGE_PREFIX_DIR}/../../../../bin/python\"") # of a virtual environment
endif()
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/disco)
configure_package_config_file(cmake/disco-config.cmake.in ${PROJECT_BINARY_DIR}/disco-config.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/disco-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/disco-config.cmake ${PROJECT_BINARY_DIR}/disco-config-version.cmake
        DESTINATION ${package_dir})
set(components cpp shared)
if(NOT DISCO_WHEEL)
  list(APPEND components static)
endif()
if(TARGET disco_cli)
  list(APPEND components command)
endif()
foreach(component IN LISTS components)
  install(EXPORT disco-${component}-targets NAMESPACE disco:: DESTINATION ${package_dir})
endforeach()

# disco_configure_pc(<folder below the build folder>): the pkg-config files, with the DISCO_PC_* of the moment
function(disco_configure_pc folder)
  foreach(name IN ITEMS disco disco-static disco-cpp)
    configure_file(cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${folder}/${name}.pc @ONLY)
  endforeach()
endfunction()

# The way from lib/pkgconfig up to the prefix: ../.. or, with a multiarch libdir, ../../..
file(RELATIVE_PATH DISCO_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" DISCO_PC_PREFIX ${DISCO_PC_PREFIX})
set(DISCO_PC_PREFIX "\${pcfiledir}/${DISCO_PC_PREFIX}")
set(DISCO_PC_INCLUDE_DIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
set(DISCO_PC_LIB_DIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
set(DISCO_PC_TVM_FFI_INCLUDE_DIR ${DISCO_TVM_FFI_INCLUDE_DIR})
set(DISCO_PC_TVM_FFI_LIB_DIR ${DISCO_TVM_FFI_LIB_DIR})
set(DISCO_PC_RPATH " -Wl,-rpath,\${libdir}") # as for TVM-FFI: neither lies where loaders look by themselves
if(DISCO_WHEEL)
  set(DISCO_PC_TVM_FFI_INCLUDE_DIR "\${prefix}/../tvm_ffi/include")
  set(DISCO_PC_TVM_FFI_LIB_DIR "\${prefix}/../tvm_ffi/lib")
endif()
disco_configure_pc(install)
list(TRANSFORM components REPLACE "^(static|cpp)$" "disco-\\1.pc" OUTPUT_VARIABLE pc_files)
list(FILTER pc_files INCLUDE REGEX "pc$")
foreach(file IN ITEMS disco.pc LISTS pc_files)
  install(FILES ${PROJECT_BINARY_DIR}/install/${file} DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
# Those in the build tree serve programs that use it from there: PKG_CONFIG_PATH=build.
set(DISCO_PC_PREFIX "\${pcfiledir}")
set(DISCO_PC_INCLUDE_DIR ${PROJECT_SOURCE_DIR}/include)
set(DISCO_PC_LIB_DIR "\${prefix}/lib")
disco_configure_pc(.)
