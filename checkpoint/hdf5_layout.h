// The HDF5 side of a checkpoint: files whose structure HDF5 makes and whose data we write ourselves, at
// the offsets that it tells. Any HDF5 tool reads the result.
#pragma once
#include <string>
#include <vector>

#include "checkpoint/manifest.h"

namespace troupe::checkpoint {

// Creates `path` with one contiguous dataset per record (groups by '/'; bf16 as 16-bit integers with the
// attribute dtype = "bf16"), space allocated, data undefined. Fills in each record's offset.
Status create_shard(const std::string& path, std::vector<TensorRecord*> records);

// Creates `path` with one virtual dataset per record that shows the record's own in its shard, under its
// name without the leading group. `records` lie in one folder with `path`.
Status create_virtual_model(const std::string& path, const std::vector<const TensorRecord*>& records);

}  // namespace troupe::checkpoint
