// The bytes of a file, decompressed on the way. By name: .gz and .dz (dictzip) are gzip, .zst is
// Zstandard, anything else is taken as it is. Several gzip members or Zstandard frames after one another
// are one text, as in gunzip and zstd. Memory stays bounded, whatever the file's size.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "runtime/base/result.h"

namespace troupe::data {

class ByteReader {
 public:
  virtual ~ByteReader() = default;

  // Fills `out` as far as the file goes; less than out.size() only at its end, 0 after it.
  // Errors: damaged (compressed data corrupt or cut short), failed (the file cannot be read).
  virtual Result<size_t> read(std::span<char> out) = 0;

  // Bytes of the file itself that were read so far: what progress is measured in.
  virtual int64_t file_position() const = 0;
};

// Opens by name. Errors: usage (missing, a folder, no permission).
Result<std::unique_ptr<ByteReader>> open_bytes(const std::string& path);

// The name without the extension that says how the file is compressed.
std::string name_without_compression(const std::string& path);

}  // namespace troupe::data
