# Language, warnings, hardening, sanitizers. All of it hangs on one interface target, disco_flags, linked privately:
# nothing of it reaches a user of the installed library.
include(CheckCCompilerFlag)
include(CheckPIESupported)

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
check_pie_supported(LANGUAGES C)

if(DISCO_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
  find_program(DISCO_CCACHE_PROGRAM ccache)
  mark_as_advanced(DISCO_CCACHE_PROGRAM)
  if(DISCO_CCACHE_PROGRAM)
    set(CMAKE_C_COMPILER_LAUNCHER ${DISCO_CCACHE_PROGRAM})
  endif()
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

add_library(disco_flags INTERFACE)
target_link_libraries(disco_flags INTERFACE Threads::Threads)
# -Wno-sign-conversion: clang's -Wconversion contains it, gcc's does not.
target_compile_options(disco_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
# Never only a warning: the guessed declaration cuts pointers to int.
target_compile_options(disco_flags INTERFACE -Werror=implicit-function-declaration)
if(DISCO_WERROR)
  target_compile_options(disco_flags INTERFACE -Werror)
endif()

target_compile_options(disco_flags INTERFACE -fstack-protector-strong)
check_c_compiler_flag(-fcf-protection=full DISCO_HAS_CF_PROTECTION) # x86 only
if(DISCO_HAS_CF_PROTECTION)
  target_compile_options(disco_flags INTERFACE -fcf-protection=full)
endif()
target_link_options(disco_flags INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)

if(DISCO_SANITIZE)
  target_compile_options(disco_flags INTERFACE -fsanitize=${DISCO_SANITIZE} -fno-sanitize-recover=all
                                               -fno-omit-frame-pointer)
  target_link_options(disco_flags INTERFACE -fsanitize=${DISCO_SANITIZE})
else()
  # Both need what sanitizers take away: FORTIFY optimised code, no-undefined a runtime outside the program.
  target_compile_options(disco_flags INTERFACE "$<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=3>")
  target_link_options(disco_flags INTERFACE -Wl,--no-undefined)
endif()
