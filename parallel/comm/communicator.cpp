#include "parallel/comm/communicator.h"

#include <fmt/ranges.h>

#include <numeric>

#include "parallel/comm/request.h"
#include "parallel/comm/traced_operation.h"

namespace troupe::parallel {
namespace {

using kernels::DType;
using kernels::Tensor;

constexpr int kTags = 1 << 15;

std::string text(const Tensor& x) {
  return x.defined() ? fmt::format("{} {}", name_of(x.dtype()), x.shape().to_string()) : "an undefined tensor";
}

bool overlap(const Tensor& a, const Tensor& b) {
  const auto* p = static_cast<const std::byte*>(a.raw());
  const auto* q = static_cast<const std::byte*>(b.raw());
  return p < q + b.bytes() && q < p + a.bytes();
}

std::vector<int64_t> offsets_of(std::span<const int64_t> rows, int64_t width) {
  std::vector<int64_t> offsets(rows.size() + 1, 0);
  for (size_t r = 0; r < rows.size(); ++r) offsets[r + 1] = offsets[r] + rows[r] * width;
  return offsets;
}

// Elements of a row of dimension 0.
int64_t row_width(const Tensor& x) {
  int64_t width = 1;
  for (int i = 1; i < x.shape().dims(); ++i) width *= x.dim(i);
  return width;
}

void refer(Request& request, const Tensor& in, const Tensor& out) {
  request.signature.dtype = in.dtype();
  request.in_tensor = in;
  request.out_tensor = out;
  request.in = static_cast<const std::byte*>(in.raw());
  request.out = static_cast<std::byte*>(out.raw());
}

}  // namespace

std::chrono::nanoseconds Pending::wait() {
  if (!operation_) return {};
  const std::shared_ptr<Operation> operation = std::move(operation_);
  operation_ = nullptr;
  return operation->wait();
}

bool Pending::done() const { return !operation_ || operation_->done(); }

Pending Communicator::begin(Request&& request) {
  if (trace_ == nullptr) return start(std::move(request));
  const int64_t bytes = request.in_tensor.defined() ? request.in_tensor.bytes() : 0;
  const TracedOperation traced{*trace_, traced_until_, request.signature, bytes, name_, steady_now()};
  return trace_operation(traced, start(std::move(request)));
}

// What every message about a bad argument begins with.
#define WHERE "group \"{}\", rank {}: {}"
#define EXPECT_ARGUMENT(condition, operation, format, ...) \
  TROUPE_CHECK(condition, WHERE format, name_, rank_, operation __VA_OPT__(, ) __VA_ARGS__)

Pending Communicator::start_reduction(Request&& request, const Tensor& in, const Tensor& out, Reduction reduction) {
  const std::string_view what = name_of(request.signature.kind);
  EXPECT_ARGUMENT(in.defined() && out.defined(), what, " of {} into {}", text(in), text(out));
  EXPECT_ARGUMENT(in.dtype() == out.dtype(), what, " of {} into {}: dtypes differ", text(in), text(out));
  EXPECT_ARGUMENT(in.dtype() != DType::u8, what, " of {}: u8 is only moved, not reduced", text(in));
  request.signature.reduction = reduction;
  refer(request, in, out);
  return begin(std::move(request));
}

Pending Communicator::all_reduce(const Tensor& x, Reduction reduction) {
  Request request{.signature = {.kind = OperationKind::all_reduce, .elements = x.defined() ? x.elements() : 0}};
  return start_reduction(std::move(request), x, x, reduction);
}

Pending Communicator::reduce_scatter(const Tensor& in, const Tensor& out, Reduction reduction) {
  if (in.defined() && out.defined()) {
    EXPECT_ARGUMENT(in.elements() == size_ * out.elements(), "reduce_scatter",
                    " of {} into {}: in has to hold one piece for each of {} ranks", text(in), text(out), size_);
    EXPECT_ARGUMENT(in.elements() == 0 || !overlap(in, out), "reduce_scatter", " of {} into {}: they overlap", text(in),
                    text(out));
  }
  Request request{.signature = {.kind = OperationKind::reduce_scatter, .elements = out.defined() ? out.elements() : 0}};
  return start_reduction(std::move(request), in, out, reduction);
}

Pending Communicator::all_gather(const Tensor& in, const Tensor& out) {
  EXPECT_ARGUMENT(in.defined() && out.defined(), "all_gather", " of {} into {}", text(in), text(out));
  EXPECT_ARGUMENT(in.dtype() == out.dtype(), "all_gather", " of {} into {}: dtypes differ", text(in), text(out));
  EXPECT_ARGUMENT(out.elements() == size_ * in.elements(), "all_gather",
                  " of {} into {}: out has to hold one piece from each of {} ranks", text(in), text(out), size_);
  Request request{.signature = {.kind = OperationKind::all_gather, .elements = in.elements()}};
  refer(request, in, out);
  EXPECT_ARGUMENT(in.elements() == 0 || !overlap(in, out) || request.in == request.out + rank_ * in.bytes(),
                  "all_gather", " of {} into {}: they overlap, and in is not piece {} of out", text(in), text(out),
                  rank_);
  return begin(std::move(request));
}

Pending Communicator::start_all_to_all(Request&& request, const Tensor& in, const Tensor& out) {
  EXPECT_ARGUMENT(in.elements() == 0 || out.elements() == 0 || !overlap(in, out), "all_to_all",
                  " of {} into {}: they overlap", text(in), text(out));
  refer(request, in, out);
  return begin(std::move(request));
}

Pending Communicator::all_to_all(const Tensor& in, const Tensor& out) {
  EXPECT_ARGUMENT(in.defined() && out.defined(), "all_to_all", " of {} into {}", text(in), text(out));
  EXPECT_ARGUMENT(in.dtype() == out.dtype() && in.elements() == out.elements() && in.elements() % size_ == 0,
                  "all_to_all", " of {} into {}: both have to be of one dtype and hold {} equal pieces", text(in),
                  text(out), size_);
  const std::vector<int64_t> pieces(static_cast<size_t>(size_), in.elements() / size_);
  Request request{.signature = {.kind = OperationKind::all_to_all}};
  request.send_offsets = request.receive_offsets = offsets_of(pieces, 1);
  return start_all_to_all(std::move(request), in, out);
}

Pending Communicator::all_to_all_v(const Tensor& in, std::span<const int64_t> send_rows, const Tensor& out,
                                   std::span<const int64_t> receive_rows) {
  EXPECT_ARGUMENT(in.defined() && out.defined(), "all_to_all_v", " of {} into {}", text(in), text(out));
  EXPECT_ARGUMENT(
      in.dtype() == out.dtype() && in.shape().dims() >= 1 && out.shape().dims() >= 1 && row_width(in) == row_width(out),
      "all_to_all_v", " of {} into {}: dtypes or rows differ", text(in), text(out));
  const auto fits = [&](std::span<const int64_t> rows, const Tensor& x) {
    int64_t sum = 0;
    for (const int64_t n : rows) {
      if (n < 0) return false;
      sum += n;
    }
    return static_cast<int>(rows.size()) == size_ && sum == x.dim(0);
  };
  EXPECT_ARGUMENT(fits(send_rows, in), "all_to_all_v", " of {}: send_rows [{}] has to give {} ranks its {} rows",
                  text(in), fmt::join(send_rows, ", "), size_, in.dim(0));
  EXPECT_ARGUMENT(fits(receive_rows, out), "all_to_all_v",
                  " into {}: receive_rows [{}] has to name {} rows of {} ranks", text(out),
                  fmt::join(receive_rows, ", "), out.dim(0), size_);
  Request request{.signature = {.kind = OperationKind::all_to_all}};
  request.send_offsets = offsets_of(send_rows, row_width(in));
  request.receive_offsets = offsets_of(receive_rows, row_width(out));
  return start_all_to_all(std::move(request), in, out);
}

Pending Communicator::broadcast(const Tensor& x, int root) {
  EXPECT_ARGUMENT(x.defined(), "broadcast", " of {}", text(x));
  EXPECT_ARGUMENT(root >= 0 && root < size_, "broadcast", " of {} from rank {}: the group has {} ranks", text(x), root,
                  size_);
  Request request{.signature = {.kind = OperationKind::broadcast, .root = root, .elements = x.elements()}};
  refer(request, x, x);
  return begin(std::move(request));
}

Pending Communicator::start_point_to_point(Request&& request, const Tensor& x, int peer, int tag) {
  const std::string_view what = name_of(request.signature.kind);
  EXPECT_ARGUMENT(x.defined(), what, " of {}", text(x));
  EXPECT_ARGUMENT(peer >= 0 && peer < size_, what, " of {}, peer {}: the group has {} ranks", text(x), peer, size_);
  EXPECT_ARGUMENT(tag >= 0 && tag < kTags, what, " of {}, tag {}: tags are 0 to {}", text(x), tag, kTags - 1);
  request.signature.elements = x.elements();
  request.peer = peer;
  request.tag = tag;
  refer(request, x, x);
  return begin(std::move(request));
}

Pending Communicator::send(const Tensor& x, int to, int tag) {
  return start_point_to_point({.signature = {.kind = OperationKind::send}}, x, to, tag);
}

Pending Communicator::receive(const Tensor& x, int from, int tag) {
  return start_point_to_point({.signature = {.kind = OperationKind::receive}}, x, from, tag);
}

void Communicator::barrier() { begin({.signature = {.kind = OperationKind::barrier}}).wait(); }

std::string_view name_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::all_reduce: return "all_reduce";
    case OperationKind::reduce_scatter: return "reduce_scatter";
    case OperationKind::all_gather: return "all_gather";
    case OperationKind::all_to_all: return "all_to_all";
    case OperationKind::broadcast: return "broadcast";
    case OperationKind::barrier: return "barrier";
    case OperationKind::split: return "split";
    case OperationKind::send: return "send";
    case OperationKind::receive: return "receive";
  }
  return "?";
}

std::string describe(const Signature& s) {
  const auto what = name_of(s.kind);
  switch (s.kind) {
    case OperationKind::all_reduce:
    case OperationKind::reduce_scatter:
      return fmt::format("{} ({}) of {} {}", what, s.reduction == Reduction::sum ? "sum" : "maximum", s.elements,
                         name_of(s.dtype));
    case OperationKind::broadcast:
      return fmt::format("{} of {} {} from rank {}", what, s.elements, name_of(s.dtype), s.root);
    case OperationKind::all_gather:
    case OperationKind::send:
    case OperationKind::receive: return fmt::format("{} of {} {}", what, s.elements, name_of(s.dtype));
    case OperationKind::all_to_all: return fmt::format("{} of {}", what, name_of(s.dtype));
    case OperationKind::barrier:
    case OperationKind::split: break;
  }
  return std::string(what);
}

std::string mismatch(const std::string& group, int rank_a, const Signature& a, int rank_b, const Signature& b) {
  return fmt::format("group \"{}\": rank {} started {}, rank {} {}", group, rank_a, describe(a), rank_b, describe(b));
}

std::string pair_differs(const std::string& group, const Signature& signature, int from, int64_t sends, int to,
                         int64_t expects) {
  return fmt::format("group \"{}\": in {} rank {} sends {} elements to rank {}, which expects {}", group,
                     describe(signature), from, sends, to, expects);
}

std::string rank_left(std::string_view who, const std::string& group, const Signature& signature) {
  return fmt::format("{} left group \"{}\" before {}", who, group, describe(signature));
}

std::string no_answer(const std::vector<std::string>& absent, std::chrono::milliseconds waited,
                      const Signature& signature, const std::string& group, int size) {
  return fmt::format("no answer from {} for {:.1f} s in {} of group \"{}\"; {} of {} ranks are waiting for {}",
                     fmt::join(absent, ", "), static_cast<double>(waited.count()) / 1e3, describe(signature), group,
                     size - static_cast<int>(absent.size()), size, absent.size() == 1 ? "it" : "them");
}

std::string under_way(const Signature& signature, const std::string& group, std::chrono::nanoseconds since,
                      const std::vector<std::string>& absent) {
  std::string text = fmt::format("{:.1f} s in {} of group \"{}\"", std::chrono::duration<double>(since).count(),
                                 describe(signature), group);
  if (!absent.empty()) text += fmt::format(", waiting for {}", fmt::join(absent, ", "));
  return text;
}

}  // namespace troupe::parallel
