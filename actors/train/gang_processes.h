// The processes of one generation on their host, as its agent sees them, and who starts them: mpirun does
// (mpirun_gang.h).
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "actors/train/rank_keeper.h"
#include "runtime/base/result.h"

namespace troupe::train {

// How a gang ended, as its host saw it.
struct GangEnd {
  // The first of its processes that ended without being told: "rank 1 (host n2, pid 411) was killed by SIGKILL"; "" if
  // none did.
  std::string first;
  std::string last_words;  // of that one
};

class GangProcesses {
 public:
  // Kills what still lives.
  virtual ~GangProcesses() = default;
  // A rank has come up as that process. False: it has gone already.
  virtual bool joined(int rank, pid_t pid) = 0;
  // How a rank ended, as its keeper reports it; none: nobody has told of another.
  virtual std::optional<RankEnd> next_end() = 0;
  // How the one that started them ended, which takes them all along; none: it lives.
  virtual std::optional<GangEnd> launcher_end() = 0;
  // SIGKILL to all of them; does not wait.
  virtual void kill() = 0;
  // The one that started them has ended, and so have all that joined.
  virtual bool gone() = 0;
};

class GangLauncher {
 public:
  virtual ~GangLauncher() = default;
  // Errors: environment (the program that starts them is not there), failed.
  virtual Result<std::unique_ptr<GangProcesses>> start(int ranks, int64_t generation) = 0;
};

}  // namespace troupe::train
