// One rank's part of an operation, as a backend carries it out, and what all ranks' parts must agree in.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace troupe::parallel {

enum class OperationKind : uint8_t {
  all_reduce,
  reduce_scatter,
  all_gather,
  all_to_all,
  broadcast,
  barrier,
  split,
  send,
  receive
};
std::string_view name_of(OperationKind);
inline bool is_point_to_point(OperationKind kind) {
  return kind == OperationKind::send || kind == OperationKind::receive;
}

// What ranks share the work of is cut at multiples of so many elements.
constexpr int64_t kCut = 16;

// The same for all ranks of one operation, or they have not called the same one. Trivially copyable: it travels.
struct Signature {
  OperationKind kind = OperationKind::barrier;
  Reduction reduction = Reduction::sum;
  kernels::DType dtype = kernels::DType::u8;
  uint8_t reserved = 0;
  int32_t root = 0;      // broadcast
  int64_t elements = 0;  // of one rank's piece: of x, of reduce_scatter's out, of all_gather's in; all_to_all: 0

  friend bool operator==(const Signature&, const Signature&) = default;
};
std::string describe(const Signature&);  // "all_reduce (sum) of 10 f32"

struct Request {
  Signature signature;
  int peer = 0, tag = 0;   // send and receive
  int color = 0, key = 0;  // split
  std::string name = {};   // split: of the group to be
  // Where a backend reads and writes; in and out are one for all_reduce, broadcast, send and receive.
  const std::byte* in = nullptr;
  std::byte* out = nullptr;
  // all_to_all: the piece for (from) rank r is elements [offsets[r], offsets[r + 1]).
  std::vector<int64_t> send_offsets = {}, receive_offsets = {};
  kernels::Tensor in_tensor = {}, out_tensor = {};  // keep the storage alive

  int64_t bytes(int64_t elements) const { return elements * kernels::size_of(signature.dtype); }
};

// What a rank waits on behind a Pending. Destroyed unfinished, it ends the group.
class Pending::Operation {
 public:
  virtual ~Operation() = default;
  // Pending::wait().
  virtual std::chrono::nanoseconds wait() = 0;
  virtual bool done() = 0;
};

// "group "data": rank 0 started all_reduce (sum) of 10 f32, rank 1 barrier".
std::string mismatch(const std::string& group, int rank_a, const Signature& a, int rank_b, const Signature& b);

// What one rank gives another and what that one expects are not the same.
std::string pair_differs(const std::string& group, const Signature&, int from, int64_t sends, int to, int64_t expects);
// `who` ("rank 3") starts nothing any more, and was needed.
std::string rank_left(std::string_view who, const std::string& group, const Signature&);

// "no answer from rank 5 for 5.0 s in all_reduce (sum) of 10 f32 of group "data"; 7 of 8 ranks are waiting for
// it". `absent` names them ("rank 5 (node n3, pid 41)").
std::string no_answer(const std::vector<std::string>& absent, std::chrono::milliseconds waited, const Signature&,
                      const std::string& group, int size);
// Communicator::under_way().
std::string under_way(const Signature&, const std::string& group, std::chrono::nanoseconds since,
                      const std::vector<std::string>& absent);

}  // namespace troupe::parallel
