// Saving and loading a checkpoint: one folder a step,
//   OUT/checkpoints/step-00000120/shard-00000.h5   every tensor, contiguous
//                                 model.h5         the model's tensors under their own names (virtual)
//                                 manifest.json    written last (manifest.h)
//                                 tokenizer/…      whatever else the caller adds
// A save writes beside its place, syncs, and renames: a crash at any moment leaves the earlier
// checkpoints as they were.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "runtime/base/file.h"
#include "runtime/base/thread_pool.h"

namespace troupe::checkpoint {

struct NamedTensor {
  std::string name;  // "model/…" or "optimizer/…"
  kernels::Tensor tensor;
};

// One checkpoint on disk. Its manifest has been checked; tensors are when they are read.
class Checkpoint {
 public:
  // Errors: damaged (no valid manifest, a file missing or of another size; the message names it); failed (it cannot be
  // told, because the disk or its rights are in the way).
  static Result<Checkpoint> open(const std::string& folder);

  const std::string& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }

  // Reads a tensor into `into` (its dtype and shape), verifying every chunk before a byte is used.
  // Errors (damaged): no such tensor, another dtype or shape (says which), a checksum mismatch (says
  // file, tensor and byte range).
  Status read(const std::string& name, kernels::Tensor& into) const;

  // Reads every tensor and compares checksums. Errors as read().
  Status verify(ThreadPool& threads) const;

 private:
  Result<std::span<const std::byte>> verified_bytes(const TensorRecord&, const MappedFile&, ThreadPool&) const;
  Checkpoint(std::string folder, Manifest manifest) : folder_(std::move(folder)), manifest_(std::move(manifest)) {}
  std::string folder_;
  Manifest manifest_;
};

// The checkpoints of one run, below OUT/checkpoints. One writer at a time.
class CheckpointStore {
 public:
  CheckpointStore(FileSystem& files, std::string root) : files_(files), root_(std::move(root)) {}

  // Adds the caller's own files to a folder that is being written, through `files`.
  using Extra = std::function<Status(const std::string& folder)>;

  // A checkpoint that is whole and synced but has no name yet that a loader looks for.
  struct Staged {
    int64_t step = 0, generation = 0;
    std::string temporary;  // "": the step was published before, nothing is left to do
    std::string folder;     // where it will be
    friend bool operator==(const Staged&, const Staged&) = default;
  };

  // Writes `tensors` (host-readable, unchanged until this returns) as step header.step beside its place, and syncs.
  // `header`'s files and tensors are filled in here. A whole checkpoint of that step that is there stays. On an error
  // the temporary folder is removed.
  Result<Staged> stage(Manifest header, std::span<const NamedTensor> tensors, const Extra& extra = {});
  // Gives a staged checkpoint its name; a damaged one of that step is replaced. On an error nothing is published
  // (only where the last sync fails, a whole checkpoint that a power cut may undo). Returns the folder.
  Result<std::string> publish(const Staged& staged);
  // Both.
  Result<std::string> save(Manifest header, std::span<const NamedTensor> tensors, const Extra& extra = {});

  // Folders named step-NUMBER, newest first, whether whole or not.
  std::vector<std::string> list() const;

  // The newest checkpoint that opens. For each newer one that does not, `damaged` is called with its
  // error. Errors: damaged (there are some and none opens); failed, as open(). Null-like: nothing if there is none at
  // all.
  Result<std::optional<Checkpoint>> newest(const std::function<void(const Error&)>& on_damaged) const;

  // Takes a folder that cannot be read out of the way, as damaged-step-…: no list, load or prune sees it again.
  Status set_aside(const std::string& folder);

  // Removes what is older than the newest `keep` whole ones (0 keeps all), and what earlier saves left unfinished.
  Status prune(int64_t keep);

  const std::string& root() const { return root_; }

 private:
  FileSystem& files_;
  std::string root_;
};

// Takes what a user may name: OUT, OUT/checkpoints or one step's folder; the newest good one of a run.
Result<Checkpoint> open_checkpoint(const std::string& path, const std::function<void(const Error&)>& on_damaged);

}  // namespace troupe::checkpoint
