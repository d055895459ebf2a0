/* disco version */
#include <tvm/ffi/c_api.h>

#include "command.h"
#include "disco/disco.h"

static int run(int argc, char **argv) {
  if (argc > 1) return usage_error("version", "unexpected argument `%.200s`", argv[1]);
  TVMFFIVersion ffi = {0};
  TVMFFIGetVersion(&ffi);
  printf("libdisco %s\nTVM-FFI %d.%d.%d\n", disco_version(), (int)ffi.major, (int)ffi.minor, (int)ffi.patch);
  return EXIT_OK;
}

const command version_command = {"version", "the versions of libdisco and of the TVM-FFI it runs with", run,
                                 "Usage:\n"
                                 "  disco version\n"
                                 "  disco --version\n"
                                 "\n"
                                 "Prints the versions of libdisco and of the TVM-FFI that it found, a line each.\n"};
