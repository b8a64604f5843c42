#include <algorithm>
#include <array>
#include <cstring>

#include "parallel/comm/reduce.h"
#include "parallel/comm/thread_group.h"

namespace troupe::parallel {
namespace {

// A block is what is claimed at once: large beside an atomic operation, small beside a tensor whose work is to be
// shared among ranks that come at different times.
constexpr int64_t kBlockBytes = 128 << 10;

}  // namespace

void ThreadOperation::plan() {
  const size_t n = requests.size();
  const int64_t bytes = requests[0].bytes(signature.elements);
  const auto copy = [&](const std::byte* from, std::byte* to, int64_t count) {
    if (from == to) return;
    for (int64_t at = 0; at < count; at += kBlockBytes) {
      copies.push_back({from + at, to + at, std::min(kBlockBytes, count - at)});
    }
  };
  switch (signature.kind) {
    case OperationKind::all_reduce:
    case OperationKind::reduce_scatter:
      if (n == 1) {
        copy(requests[0].in, requests[0].out, bytes);
        break;
      }
      blocks_per_piece = (bytes + kBlockBytes - 1) / kBlockBytes;
      blocks = blocks_per_piece * (signature.kind == OperationKind::all_reduce ? 1 : static_cast<int64_t>(n));
      break;
    case OperationKind::all_gather:
      for (const Request& to : requests) {
        for (size_t r = 0; r < n; ++r) copy(requests[r].in, to.out + static_cast<int64_t>(r) * bytes, bytes);
      }
      break;
    case OperationKind::all_to_all:
      for (size_t to = 0; to < n; ++to) {
        const Request& taker = requests[to];
        for (size_t r = 0; r < n; ++r) {
          const std::vector<int64_t>& sent = requests[r].send_offsets;
          copy(requests[r].in + taker.bytes(sent[to]), taker.out + taker.bytes(taker.receive_offsets[r]),
               taker.bytes(sent[to + 1] - sent[to]));
        }
      }
      break;
    case OperationKind::broadcast:
      for (const Request& to : requests) copy(requests[static_cast<size_t>(signature.root)].in, to.out, bytes);
      break;
    case OperationKind::send:
    case OperationKind::receive: copy(requests[0].in, requests[1].out, bytes); break;
    case OperationKind::barrier:
    case OperationKind::split: break;
  }
  if (!copies.empty()) blocks = static_cast<int64_t>(copies.size());
  left.store(blocks, std::memory_order_relaxed);  // published with `ready`, under the group's mutex
}

void ThreadOperation::run_block(int64_t block) const {
  if (!copies.empty()) {
    const Copy& copy = copies[static_cast<size_t>(block)];
    std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    return;
  }
  const size_t n = requests.size();
  const int64_t piece = block / blocks_per_piece;
  const int64_t per_block = kBlockBytes / kernels::size_of(signature.dtype);
  const int64_t begin = (block % blocks_per_piece) * per_block;
  const int64_t count = std::min(per_block, signature.elements - begin);
  const int64_t in = requests[0].bytes(piece * signature.elements + begin);
  const int64_t out = requests[0].bytes(begin);
  constexpr size_t kFew = 64;
  std::array<const std::byte*, kFew> few_in;
  std::array<std::byte*, kFew> few_out;
  std::vector<const std::byte*> many_in(n > kFew ? n : 0);
  std::vector<std::byte*> many_out(many_in.size());
  const std::span inputs = n > kFew ? std::span(many_in) : std::span(few_in).first(n);
  std::span outputs = n > kFew ? std::span(many_out) : std::span(few_out).first(n);
  for (size_t r = 0; r < n; ++r) {
    inputs[r] = requests[r].in + in;
    outputs[r] = requests[r].out + out;
  }
  if (signature.kind == OperationKind::reduce_scatter) outputs = outputs.subspan(static_cast<size_t>(piece), 1);
  reduce_in_order(signature.dtype, signature.reduction, inputs, outputs, count);
}

}  // namespace troupe::parallel
