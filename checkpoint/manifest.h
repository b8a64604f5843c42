// The manifest of a checkpoint: what it holds, where each tensor's bytes lie, and their checksums. It is
// written last; a folder without a valid one is not a checkpoint.
//
// JSON, one object: "format" (version), "step", "sequences" (consumed: the data position), "seed",
// "generation", "config" (the resolved TOML), "labels" (free strings, e.g. the tokenizer's fingerprint),
// "files" [{name, bytes}], "tensors" [{name, dtype, shape, file, offset, bytes, checksums}], and as the
// last member "checksum": XXH3-64 (hex) of every byte before it.
// A tensor's checksums are XXH3-64 of its bytes in chunks of kChunkBytes.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor/tensor.h"
#include "runtime/base/result.h"

namespace troupe::checkpoint {

constexpr int kFormatVersion = 1;
constexpr int64_t kChunkBytes = int64_t{4} << 20;

struct FileRecord {
  std::string name;  // relative to the checkpoint's folder
  int64_t bytes = 0;
};

struct TensorRecord {
  std::string name;  // "model/blocks.0.attention.query.weight", "optimizer/first_moment/…"
  kernels::DType dtype = kernels::DType::f32;
  kernels::Shape shape;
  std::string file;
  int64_t offset = 0;  // of the first byte in the file
  int64_t bytes = 0;
  std::vector<uint64_t> checksums;
};

struct Manifest {
  int64_t step = 0;
  int64_t sequences = 0;
  uint64_t seed = 0;
  int64_t generation = 0;
  std::string config;
  std::map<std::string, std::string> labels;
  std::vector<FileRecord> files;
  std::vector<TensorRecord> tensors;

  const TensorRecord* find(std::string_view tensor) const;
  std::string to_json() const;
  // Errors (damaged): not a manifest, a checksum that does not match, a later format, sizes that
  // contradict each other, file names that leave the folder.
  static Result<Manifest> parse(std::string_view json);
};

uint64_t checksum_of(const void* bytes, size_t count);

}  // namespace troupe::checkpoint
