// The smallest user of the installed C++ face.
#include <tvm/runtime/disco/session.h>

#include <cstdio>

int main() {
  using namespace tvm::runtime;
  Session session = Session::ThreadedSession(2, 1);
  DRef worker_rank = session->GetGlobalFunc("runtime.disco.worker_rank");
  DRef result = session->CallPacked(worker_rank);
  session->SyncWorker(1);
  int number = static_cast<int>(result->DebugGetFromRemote(1).cast<int64_t>());
  session->Shutdown();
  std::printf("worker %d of a C++ session\n", number);
  return number == 1 ? 0 : 1;
}
