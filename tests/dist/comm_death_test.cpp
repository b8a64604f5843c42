// A rank that is killed inside a collective: the others learn it within their deadline, by name. Run by mpirun with
// --enable-recovery, which leaves the survivors alone; each says on stdout how it went.
//
//   mpirun --enable-recovery -n 3 comm_death_test [--one-host-per-rank]
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include "parallel/comm/mpi_session.h"
#include "runtime/base/process.h"

namespace troupe::parallel {
namespace {

using namespace std::chrono_literals;
using kernels::DType;
using kernels::Tensor;

constexpr int kVictim = 1;
constexpr auto kDeadline = 1500ms;

bool sleeps(pid_t thread) {
  std::ifstream file(fmt::format("/proc/self/task/{}/stat", thread));
  const std::string stat((std::istreambuf_iterator<char>(file)), {});
  return stat.find(") S ") != std::string::npos;
}

std::string run(Communicator& comm) {
  const auto device = kernels::make_cpu_device(1);
  const Tensor x = Tensor::zeros(*device, DType::f32, {1 << 20});
  const int64_t own[] = {getpid()};
  const Tensor mine = Tensor::from<int64_t>(*device, own, {1});
  const Tensor all = Tensor::zeros(*device, DType::i64, {comm.size()});
  comm.all_gather(mine, all).wait();
  comm.all_reduce(x).wait();
  const auto victim = static_cast<pid_t>(all.data<int64_t>()[kVictim]);
  if (comm.rank() == kVictim) {
    std::thread([waiter = static_cast<pid_t>(syscall(SYS_gettid))] {
      while (!sleeps(waiter)) std::this_thread::yield();
      kill(getpid(), SIGKILL);
    }).detach();
  }
  // Rank 0 comes when the victim, which waits for it, is no more.
  if (comm.rank() == 0) {
    const auto process = ProcessHandle::open(victim);
    if (process && !process->ended(20'000)) return "the victim lives on";
  }
  const auto begin = std::chrono::steady_clock::now();
  try {
    comm.all_reduce(x).wait();
    return "the collective ended without the victim";
  } catch (const CommunicationError& error) {
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    const std::string text = error.what(), name = fmt::format("pid {})", victim);
    if (text.find(fmt::format("rank {} (node ", kVictim)) == std::string::npos || text.find(name) == std::string::npos)
      return "the victim is not named: " + text;
    if (taken > 2 * kDeadline) return fmt::format("told after {:.1f} s: {}", taken.count(), text);
  }
  return "passed";
}

}  // namespace
}  // namespace troupe::parallel

int main(int argc, char** argv) {
  using namespace troupe::parallel;
  MpiOptions options;
  for (int i = 1; i < argc; ++i) options.one_host_per_rank |= std::string_view(argv[i]) == "--one-host-per-rank";
  auto session = MpiSession::open(options);
  if (!session.ok()) {
    std::fprintf(stderr, "%s\n", session.error().message().c_str());
    return 3;
  }
  const auto comm = (*session)->world("world", {.deadline = kDeadline});
  const std::string outcome = run(*comm);
  std::printf("rank %d: %s\n", comm->rank(), outcome.c_str());
  std::fflush(stdout);
  std::_Exit(0);  // MPI would wait for the dead
}
