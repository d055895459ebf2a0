/* The smallest user of an installed libdisco; compiled as C11 and as C++17. */
#include <stdio.h>
#include <string.h>

#include "disco/disco.h"
#include "disco/worker.h"

int main(void) {
  char compiled[32];
  (void)snprintf(compiled, sizeof(compiled), "%d.%d.%d", DISCO_VERSION_MAJOR, DISCO_VERSION_MINOR, DISCO_VERSION_PATCH);
  if (strcmp(compiled, disco_version()) != 0) {
    (void)fprintf(stderr, "compiled with %s, loaded %s\n", compiled, disco_version());
    return 1;
  }
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
  disco_session *session = NULL;
  disco_status status = disco_session_create_threaded(&options, &session);
  if (status == DISCO_OK) status = disco_session_sync(session, DISCO_ALL_WORKERS, DISCO_FOREVER);
  if (status == DISCO_OK) status = disco_session_shutdown(session);
  if (status != DISCO_OK) (void)fprintf(stderr, "%s\n", disco_last_error_text());
  disco_session_unref(session);
  /* TVM-FFI's own functions are there too. */
  TVMFFIVersion version;
  TVMFFIGetVersion(&version);
  (void)printf("libdisco %s on TVM-FFI %u.%u.%u: status %d\n", disco_version(), version.major, version.minor,
               version.patch, (int)status);
  return status == DISCO_OK ? 0 : 1;
}
