// OUT, the folder that one run owns, as the head of the run keeps it:
//   generation     how often the run was started: the lease that every start takes anew, and that must still be held
//                  where a checkpoint is given its name, or set aside
//   run.json       resolved config, layout, versions, seed, device
//   metrics.jsonl  a line a step (metrics.h)
//   loss.svg       the loss curve
//   checkpoints/   (checkpoint/checkpoint.h), each with the tokenizer in it
//   tokens/        the encoded data, unless data.cache names another place
//   workers.log    what mpirun and the ranks print, where they are processes
//   .lock          held while a process trains in it
#pragma once
#include <optional>
#include <string>

#include "actors/train/metrics.h"
#include "actors/train/run_setup.h"
#include "checkpoint/checkpoint.h"
#include "runtime/base/file_lock.h"

namespace troupe::train {

struct RunFacts {
  std::string config_path;
  std::string device, layout;
  int64_t parameters = 0;
};

class RunFolder {
 public:
  // Makes OUT and takes it for this process, as long as the object lives. Errors (usage): it is not empty and `resume`
  // is not set; another process trains in it (names it).
  static Result<RunFolder> take(FileSystem& files, const std::string& out, bool resume);

  // The next generation, on the disk before it is used: no two starts have the same. Errors: damaged; failed: somebody
  // else has taken the lease since (where the file system knows no locks, or does not share them between hosts).
  Result<int64_t> next_generation();
  int64_t generation() const { return generation_; }

  Status write_run_json(const RunSetup& setup, const RunFacts& facts, const std::string& config_json);

  // Opens metrics.jsonl and takes over the losses that earlier generations wrote, up to `step`.
  Status begin(int64_t step);
  // Keeps the line for the curve, and writes it if `to_file`.
  Status write(const MetricsLine& line, bool to_file);
  // The curve of what begin() has found and write() has added; nothing before that.
  Status draw(const std::string& title) const;
  double last_loss() const;  // 0 if there is none

  // Gives a staged checkpoint its name, and returns it. Errors (failed): as CheckpointStore; the lease is another's.
  Result<std::string> publish(const checkpoint::CheckpointStore::Staged& staged);
  // Takes a checkpoint that cannot be read out of the way. Errors as publish().
  Status set_aside(const std::string& folder);

  checkpoint::CheckpointStore& checkpoints() { return checkpoints_; }
  const std::string& path() const { return out_; }

 private:
  RunFolder(FileSystem& files, const std::string& out, FileLock lock);
  // The newest generation of all; -1: none yet. Errors: damaged; failed: it is newer than ours.
  Result<int64_t> read_lease() const;

  FileSystem* files_;
  std::string out_;
  FileLock lock_;
  checkpoint::CheckpointStore checkpoints_;
  int64_t generation_ = -1;
  std::optional<LineWriter> metrics_;
  LossHistory history_;
};

}  // namespace troupe::train
