# What `make install` puts where: library, headers, pkg-config file, CMake package. Everything is found relative to the
# installed files, so a tree may be moved (DESTDIR, PREFIX), but for TVM-FFI: the wheel stays where it was at build time
# unless the user names another.
include(CMakePackageConfigHelpers)

# Lets the installed libdisco.so find the wheel's libtvm_ffi.so in a program that does not know of it.
set(DISCO_INSTALL_RPATH ${DISCO_TVM_FFI_LIB_DIR} CACHE STRING "RUNPATH of the installed libdisco.so; may be empty")
set_target_properties(disco_shared PROPERTIES INSTALL_RPATH "${DISCO_INSTALL_RPATH}")
if(DISCO_INSTALL_RPATH STREQUAL DISCO_TVM_FFI_LIB_DIR)
  # Otherwise CMake pads the build tree's RUNPATH for later editing, and its empty last entry is the current directory.
  set_target_properties(disco_shared PROPERTIES BUILD_WITH_INSTALL_RPATH ON)
endif()

install(
  TARGETS disco_shared disco_static
  EXPORT disco-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/disco DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
if(TARGET disco_cli)
  # It names libtvm_ffi.so itself, so libdisco's RUNPATH does not help it.
  set_property(TARGET disco_cli APPEND PROPERTY INSTALL_RPATH ${DISCO_INSTALL_RPATH})
  install(FILES docs/man/disco.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES cli/completion/disco.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME disco)
endif()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/disco)
configure_package_config_file(cmake/disco-config.cmake.in ${PROJECT_BINARY_DIR}/disco-config.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/disco-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/disco-config.cmake ${PROJECT_BINARY_DIR}/disco-config-version.cmake
        DESTINATION ${package_dir})
install(EXPORT disco-targets NAMESPACE disco:: DESTINATION ${package_dir})

# The way from lib/pkgconfig up to the prefix: ../.. or, with a multiarch libdir, ../../..
file(RELATIVE_PATH DISCO_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" DISCO_PC_PREFIX ${DISCO_PC_PREFIX})
set(DISCO_PC_PREFIX "\${pcfiledir}/${DISCO_PC_PREFIX}")
set(DISCO_PC_INCLUDE_DIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
set(DISCO_PC_LIB_DIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
configure_file(cmake/disco.pc.in install/disco.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/install/disco.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
# The one in the build tree serves programs that use it from there: PKG_CONFIG_PATH=build.
set(DISCO_PC_PREFIX "\${pcfiledir}")
set(DISCO_PC_INCLUDE_DIR ${PROJECT_SOURCE_DIR}/include)
set(DISCO_PC_LIB_DIR "\${prefix}/lib")
configure_file(cmake/disco.pc.in disco.pc @ONLY)
