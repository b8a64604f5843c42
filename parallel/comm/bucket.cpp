#include "parallel/comm/bucket.h"

#include <map>
#include <utility>

namespace troupe::parallel {
namespace {

using kernels::Tensor;

// Small tensors of one dtype, side by side in a flat copy once it is under way.
struct Bucket {
  std::vector<Tensor> parts;
  int64_t elements = 0;
  Tensor flat;
  Pending pending;

  void start(Communicator& comm, Reduction reduction) {
    flat = Tensor::empty(parts[0].device(), parts[0].dtype(), {elements}, kernels::MemoryKind::buffers);
    for_parts([](Tensor piece, const Tensor& part) { piece.copy_from(part); });
    pending = comm.all_reduce(flat, reduction);
  }

  void finish() {
    pending.wait();
    for_parts([](const Tensor& piece, Tensor part) { part.copy_from(piece); });
  }

 private:
  template <class Body>
  void for_parts(const Body& body) const {
    int64_t at = 0;
    for (const Tensor& part : parts) {
      body(flat.slice(at, at + part.elements()), part.reshape({part.elements()}));
      at += part.elements();
    }
  }
};

}  // namespace

void all_reduce_together(Communicator& comm, std::span<const Tensor> tensors, Reduction reduction,
                         BucketOptions options) {
  if (comm.size() == 1) return;
  std::vector<Pending> large;
  std::vector<Bucket> under_way;
  std::map<kernels::DType, Bucket> open;
  for (const Tensor& x : tensors) {
    TROUPE_CHECK(x.defined(), "group \"{}\", rank {}: all_reduce_together of an undefined tensor", comm.name(),
                 comm.rank());
    if (x.elements() == 0) continue;
    if (x.bytes() >= options.large_bytes) {
      large.push_back(comm.all_reduce(x, reduction));
      continue;
    }
    Bucket& bucket = open[x.dtype()];
    bucket.parts.push_back(x);
    bucket.elements += x.elements();
    if (bucket.elements * kernels::size_of(x.dtype()) >= options.piece_bytes) {
      under_way.push_back(std::exchange(bucket, {}));
      under_way.back().start(comm, reduction);
    }
  }
  for (auto& [dtype, bucket] : open) {
    if (bucket.parts.empty()) continue;
    under_way.push_back(std::move(bucket));
    under_way.back().start(comm, reduction);
  }
  for (Pending& pending : large) pending.wait();
  for (Bucket& bucket : under_way) bucket.finish();
}

}  // namespace troupe::parallel
