// MPI in this process, from its start to its end, and the communicators of its ranks. Owned by the main function of
// a worker process that mpirun or srun has started.
//
// Ranks of one host exchange collectives through shared memory; everything else goes by MPI's messages, all by one
// thread at a time (MPI_THREAD_SERIALIZED). A rank that dies is not noticed by MPI: the deadline of its peers'
// waits ends them, or abort(), called by whoever supervises the processes.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "parallel/comm/communicator.h"
#include "runtime/base/result.h"

namespace troupe::parallel {

// False in a build without MPI (TROUPE_MPI).
bool has_mpi();

struct MpiOptions {
  // libtroupe_mpi.so; empty: beside the program, then where the system looks for libraries.
  std::string library;
  // For tests. Treats every rank as alone on its host: nothing goes through shared memory.
  bool one_host_per_rank = false;
  // For tests of aborts, which all ranks outlive: MPI is ended although groups were aborted.
  bool finalize_after_aborts = false;
};

class MpiSession {
 public:
  // Starts MPI. Blocks until all ranks have; REQUIRES: started by mpirun or srun, once in a process. Errors:
  // environment, if there is no MPI here.
  static Result<std::unique_ptr<MpiSession>> open(MpiOptions = {});

  // Ends MPI if every group was of use to the end, which all ranks must do together. After an abort MPI may wait for
  // ever for a rank that is no more: it is left as it is, and the process is to end by std::_Exit.
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int rank() const;
  int size() const;
  bool aborted() const;  // some group of this process was
  // A group of all ranks, with a fate of its own. Called by all ranks together, blocks. The session outlives it.
  std::unique_ptr<Communicator> world(std::string name = "world", CommunicatorOptions = {});
  // MPI's own all-reduce of f32 sums, blocking: for measuring ours beside it. REQUIRES: nothing of ours is under way.
  Status mpi_all_reduce(std::span<const float> in, std::span<float> out);

 private:
  struct State;
  explicit MpiSession(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace troupe::parallel
