// A C++ program as one writes it against TVM's session.h and builtin.h: only the include path says that it is libdisco
// which answers (and it compiles with TVM's, too). `program` runs everything; `program absent` runs where libdisco is
// not, and checks what it hears.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <tvm/runtime/disco/builtin.h>
#include <tvm/runtime/disco/session.h>
#include <tvm/runtime/tensor.h>
// TVM's headers beside ours, where they are.
#if __has_include(<tvm/runtime/disco/disco_worker.h>)
#include <tvm/runtime/device_api.h>
#include <tvm/runtime/disco/disco_worker.h>
#endif

namespace {

using namespace tvm::runtime;
namespace ffi = tvm::ffi;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
static_assert(sizeof(DRefObj) == 40 && offsetof(DRefObj, reg_id) == 24 && offsetof(DRefObj, session) == 32,
              "a DRef lies as TVM's");
#pragma GCC diagnostic pop
static_assert(sizeof(DRef) == sizeof(void *) && sizeof(Session) == sizeof(void *), "references are pointers");
static_assert(DRef::_type_is_nullable == false && Session::_type_is_nullable == true, "as TVM has them");
static_assert(static_cast<int>(DiscoAction::kDebugSetRegister) == 8 && static_cast<int>(ReduceKind::kAvg) == 4,
              "the numbers of the contract");

int checks;
#define CHECK(condition)                                                      \
  do {                                                                        \
    checks++;                                                                 \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

// The error that something ends with.
ffi::Error error_of(const std::function<void()> &something) {
  try {
    something();
  } catch (const ffi::Error &error) {
    return error;
  }
  fprintf(stderr, "no error came\n");
  exit(1);
}

bool says(const ffi::Error &error, const char *kind, const char *words) {
  bool so = std::string(error.kind()) == kind && std::string(error.message()).find(words) != std::string::npos;
  if (!so) fprintf(stderr, "%s: %s\n", std::string(error.kind()).c_str(), std::string(error.message()).c_str());
  return so;
}

const tvm::Device cpu{kDLCPU, 0};
const DLDataType float32{kDLFloat, 32, 1};

Tensor tensor_of(const std::vector<float> &numbers) {
  Tensor tensor = Tensor::Empty(ffi::Shape({static_cast<int64_t>(numbers.size())}), float32, cpu);
  tensor.CopyFromBytes(numbers.data(), numbers.size() * sizeof(float));
  return tensor;
}

std::vector<float> numbers_of(const Tensor &tensor) {
  std::vector<float> numbers(static_cast<size_t>(tensor.numel()));
  tensor.CopyToBytes(numbers.data(), numbers.size() * sizeof(float));
  return numbers;
}

// ---- Functions that run on workers ----

// A tensor of the calling worker's own, by the function of builtin.h.
Tensor own_tensor(const std::vector<float> &numbers) {
  Tensor tensor = DiscoEmptyTensor(ffi::Shape({static_cast<int64_t>(numbers.size())}), float32, std::nullopt);
  tensor.CopyFromBytes(numbers.data(), numbers.size() * sizeof(float));
  return tensor;
}

void expect(const Tensor &tensor, const std::vector<float> &numbers) {
  if (numbers_of(tensor) != numbers) TVM_FFI_THROW(ValueError) << "worker " << WorkerId() << " got something else";
}

// Every collective of builtin.h among 3 workers. Returns {average of the ranks, 2}.
Tensor run_collectives() {
  const auto rank = static_cast<float>(WorkerId());
  const bool root = WorkerId() == 0;
  Tensor mine = own_tensor({rank, 2}), all = own_tensor({0, 0, 0, 0, 0, 0}), part = own_tensor({0, 0});
  AllGather(mine, false, all);
  expect(all, {0, 2, 1, 2, 2, 2});
  ScatterFromWorker0(root ? ffi::Optional<Tensor>(all) : std::nullopt, false, part);
  expect(part, {rank, 2});
  BroadcastFromWorker0(root ? own_tensor({7, 8}) : Tensor(), false, part);
  expect(part, {7, 8});
  GatherToWorker0(part, false, root ? ffi::Optional<Tensor>(all) : std::nullopt);
  if (root) expect(all, {7, 8, 7, 8, 7, 8});
  if (root) SendToWorker(own_tensor({1, 0}), 1);
  if (WorkerId() == 1) RecvFromWorker0(part);
  if (WorkerId() == 1) SendToWorker(part, 2);
  if (WorkerId() == 2) RecvFromWorker(part, 1);
  if (!root) expect(part, {1, 0});
  AllReduce(mine, ReduceKind::kAvg, false, mine);
  SyncWorker();
  return mine;
}

// Of 2 groups of 1, the first gives the second its tensor.
Tensor run_to_next_group() {
  Tensor mine = own_tensor({static_cast<float>(WorkerId() + 5)});
  if (WorkerId() == 0) SendToNextGroup(mine);
  if (WorkerId() == 1) RecvFromPrevGroup(mine);
  return mine;
}

void register_functions() {
  ffi::Function::SetGlobal("test.echo", ffi::Function::FromTyped([](ffi::Any value) { return value; }));
  ffi::Function::SetGlobal("test.fail_on", ffi::Function::FromTyped([](int worker) {
                             if (WorkerId() == worker) TVM_FFI_THROW(IndexError) << "worker " << worker << " minds";
                           }));
  ffi::Function::SetGlobal("test.collectives", ffi::Function::FromTyped(run_collectives));
  ffi::Function::SetGlobal("test.to_next_group", ffi::Function::FromTyped(run_to_next_group));
}

void test_names() {
  CHECK(DiscoAction2String(DiscoAction::kShutDown) == "kShutDown");
  CHECK(DiscoAction2String(DiscoAction::kDebugSetRegister) == "kDebugSetRegister");
  CHECK(
      says(error_of([] { DiscoAction2String(static_cast<DiscoAction>(9)); }), "ValueError", "Unknown DiscoAction: 9"));
  CHECK(ReduceKind2String(ReduceKind::kSum) == "kSum" && ReduceKind2String(ReduceKind::kAvg) == "kAvg");
  CHECK(says(error_of([] { ReduceKind2String(static_cast<ReduceKind>(-1)); }), "ValueError", "Unknown ReduceKind: -1"));
}

template <typename Type, typename Value> Type echoed(const Session &session, Value &&value) {
  DRef echo = session->GetGlobalFunc("test.echo");
  return session->CallPacked(echo, std::forward<Value>(value))->DebugGetFromRemote(1).template cast<Type>();
}

void test_arguments() {
  Session session = Session::ThreadedSession(2, 1);
  CHECK(session->GetNumWorkers() == 2);
  CHECK(echoed<int64_t>(session, 42) == 42 && echoed<int64_t>(session, INT64_MIN) == INT64_MIN);
  CHECK(echoed<double>(session, 2.5) == 2.5 && echoed<bool>(session, true));
  CHECK(echoed<std::string>(session, "a raw string, borrowed") == "a raw string, borrowed");
  CHECK(echoed<std::string>(session, std::string(100, 'x')) == std::string(100, 'x'));
  CHECK(echoed<std::string>(session, ffi::String("short")) == "short");
  CHECK(echoed<DLDataType>(session, float32).bits == 32 && echoed<DLDevice>(session, cpu).device_type == kDLCPU);
  CHECK(echoed<ffi::Shape>(session, ffi::Shape({2, 3}))[1] == 3);
  CHECK(!echoed<ffi::Optional<ffi::Shape>>(session, nullptr).has_value());
  CHECK(echoed<int64_t>(session, session->CallPacked(session->GetGlobalFunc("test.echo"), 7)) == 7);
  Tensor tensor = tensor_of({1, 2});
  CHECK(echoed<Tensor>(session, tensor).same_as(tensor)); // thread workers share the very object

  DRef echo = session->GetGlobalFunc("test.echo");
  ffi::AnyView packed[] = {static_cast<int>(DiscoAction::kCallPacked), 0, echo, 99};
  CHECK(session->CallWithPacked(ffi::PackedArgs(packed, 4))->DebugGetFromRemote(0).cast<int64_t>() == 99);
  packed[0] = static_cast<int>(DiscoAction::kSyncWorker);
  CHECK(says(error_of([&] { session->CallWithPacked(ffi::PackedArgs(packed, 4)); }), "ValueError", "kCallPacked"));
  CHECK(echo->session.as<SessionObj>() != nullptr && echo->session.same_as(session) && echo->reg_id > 0);
}

// What a class of the user's own would reach: DeallocReg is protected, as in TVM.
struct Access : SessionObj {
  using SessionObj::DeallocReg;
};

void test_registers() {
  Session session = Session::ThreadedSession(2, 1);
  DRef echo = session->GetGlobalFunc("test.echo");
  DRef value = session->CallPacked(echo, 1);
  value->DebugCopyFrom(1, "other");
  CHECK(value->DebugGetFromRemote(0).cast<int>() == 1 && value->DebugGetFromRemote(1).cast<std::string>() == "other");
  session->DebugSetRegister(value->reg_id, 5, 0);
  CHECK(session->DebugGetFromRemote(value->reg_id, 0).cast<int>() == 5);
  CHECK(says(error_of([&] { value->DebugGetFromRemote(2); }), "ValueError", "2"));
  (session.get()->*&Access::DeallocReg)(static_cast<int>(value->reg_id));
  CHECK(says(error_of([&] { session->CallPacked(echo, value); }), "ValueError", "released"));
  CHECK(says(error_of([&] { session->DebugGetFromRemote(12345, 0); }), "ValueError", "12345"));
}

void test_copies() {
  Session session = Session::ThreadedSession(2, 1);
  DRef empty = session->GetGlobalFunc("runtime.disco.empty");
  DRef remote = session->CallPacked(empty, ffi::Shape({3}), float32, nullptr, false, false);
  Tensor back = tensor_of({0, 0, 0});
  session->CopyToWorker0(tensor_of({1, 2, 3}), remote);
  session->CopyFromWorker0(back, remote);
  session->SyncWorker(0);
  CHECK(numbers_of(back) == (std::vector<float>{1, 2, 3}));
  remote->DebugCopyFrom(1, tensor_of({4, 5, 6}));
  CHECK(numbers_of(remote->DebugGetFromRemote(1).cast<Tensor>()) == (std::vector<float>{4, 5, 6}));
  session->CopyFromWorker0(tensor_of({1}), remote);
  CHECK(says(error_of([&] { session->SyncWorker(0); }), "ValueError", "bytes"));
}

void test_collectives() {
  Session session = Session::ThreadedSession(3, 1);
  CHECK(says(error_of([&] { session->InitCCL("nothing", ffi::Shape({0})); }), "ValueError", "nothing"));
  session->InitCCL("cpu", ffi::Shape({0, 1, 2}));
  DRef average = session->CallPacked(session->GetGlobalFunc("test.collectives"));
  for (int worker = 0; worker < 3; worker++)
    CHECK(numbers_of(average->DebugGetFromRemote(worker).cast<Tensor>()) == (std::vector<float>{1, 2}));
  session->CallPacked(session->GetGlobalFunc("runtime.disco.allreduce"), average,
                      ffi::Shape({static_cast<int>(ReduceKind::kProd)}), false, average);
  CHECK(numbers_of(average->DebugGetFromRemote(2).cast<Tensor>()) == (std::vector<float>{1, 8}));

  Session groups = Session::ThreadedSession(2, 2);
  groups->InitCCL("cpu", ffi::Shape({0, 1}));
  DRef given = groups->CallPacked(groups->GetGlobalFunc("test.to_next_group"));
  CHECK(numbers_of(given->DebugGetFromRemote(1).cast<Tensor>()) == std::vector<float>{5});
  CHECK(says(error_of([] { WorkerId(); }), "ValueError", "DiscoWorker"));
}

void test_errors() {
  Session session = Session::ThreadedSession(3, 1);
  session->CallPacked(session->GetGlobalFunc("test.fail_on"), 2);
  CHECK(says(error_of([&] { session->SyncWorker(2); }), "IndexError", "worker 2 minds"));
  session->SyncWorker(2); // told once; the session works on
  CHECK(says(error_of([] { Session::ThreadedSession(3, 2); }), "ValueError", "divisible"));
#ifdef DISCO_CPP_LIBRARY_H // TVM declares it in no header
  static_assert(sizeof(SessionObj) == sizeof(TVMFFIObject), "a session is its handle: no vtable stands before it");
  CHECK(says(error_of([] { SocketSession(2, 1, 1, "localhost", 0); }), "RuntimeError", "hosts"));
#endif
  session->Shutdown();
  session->Shutdown();
  CHECK(says(error_of([&] { session->SyncWorker(0); }), "SessionClosedError", ""));
}

// A pool as TVM has them: it starts the program in DISCO_PROGRAM and hands out the ends of two pipes.
int pool_ends;

ffi::Any start_worker(int worker, int num_workers, int num_groups, std::vector<pid_t> *pids) {
  if (worker == 0) {
    pool_ends++;
    for (pid_t pid : *pids) waitpid(pid, nullptr, 0);
    delete pids;
    return nullptr;
  }
  int commands[2], answers[2];
  CHECK(pipe2(commands, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, commands[0], 100); // the copies stay open in the program
  posix_spawn_file_actions_adddup2(&actions, answers[1], 101);
  std::string numbers[] = {std::to_string(worker), std::to_string(num_workers), std::to_string(num_groups)};
  const char *words[] = {getenv("DISCO_PROGRAM"),
                         "worker",
                         numbers[0].c_str(),
                         numbers[1].c_str(),
                         numbers[2].c_str(),
                         "100",
                         "101",
                         nullptr};
  pid_t pid = 0;
  CHECK(posix_spawn(&pid, words[0], &actions, nullptr, const_cast<char **>(words), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(commands[0]);
  close(answers[1]);
  pids->push_back(pid);
  return ffi::Shape({answers[0], commands[1]});
}

void test_processes() {
  ffi::Function::SetGlobal("test.pool", ffi::Function::FromTyped([](int workers, int groups, ffi::String entrypoint) {
                             CHECK(entrypoint == "some.entrypoint");
                             auto *pids = new std::vector<pid_t>();
                             return ffi::Function::FromTyped([workers, groups, pids](int worker) {
                               return start_worker(worker, workers, groups, pids);
                             });
                           }));
  CHECK(says(error_of([] { Session::ProcessSession(2, 1, "test.no_pool", ""); }), "ValueError", "test.no_pool"));
  {
    Session session = Session::ProcessSession(2, 1, "test.pool", "some.entrypoint");
    DRef rank = session->CallPacked(session->GetGlobalFunc("runtime.disco.worker_rank"));
    CHECK(rank->DebugGetFromRemote(0).cast<int>() == 0 && rank->DebugGetFromRemote(1).cast<int>() == 1);
    DRef put = session->CallPacked(session->GetGlobalFunc("runtime.disco.empty"), ffi::Shape({2}), "float32", nullptr,
                                   false, false);
    put->DebugCopyFrom(1, tensor_of({8, 9}));
    CHECK(numbers_of(put->DebugGetFromRemote(1).cast<Tensor>()) == (std::vector<float>{8, 9}));
    session->Shutdown();
  }
  for (int i = 0; pool_ends == 0 && i < 5000; i++) usleep(1000); // the session ends in the background
  CHECK(pool_ends == 1);
}

int run_absent() {
  CHECK(says(error_of([] { Session::ThreadedSession(2, 1); }), "RuntimeError", "libdisco is not in this process"));
  CHECK(says(error_of([] { WorkerId(); }), "RuntimeError", "libdisco is not in this process"));
  printf("%d checks\n", checks);
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  alarm(60);
  if (argc > 1 && strcmp(argv[1], "absent") == 0) return run_absent();
  register_functions();
  test_names();
  test_arguments();
  test_registers();
  test_copies();
  test_collectives();
  test_errors();
  test_processes();
  printf("%d checks\n", checks);
  return 0;
}
