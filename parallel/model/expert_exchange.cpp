#include "parallel/model/expert_exchange.h"

#include <algorithm>
#include <numeric>

#include "kernels/ops/permutation.h"

namespace troupe::parallel {

using kernels::Backward;
using kernels::Device;
using kernels::DType;
using kernels::MemoryKind;
using kernels::Tape;
using kernels::Tensor;
using kernels::Value;

namespace {

std::vector<int64_t> exchanged(Communicator& group, Device& device, const std::vector<int64_t>& counts) {
  if (group.size() == 1) return counts;
  const auto size = static_cast<int64_t>(counts.size());
  const Tensor in = Tensor::from<int64_t>(device, counts, {size}, MemoryKind::buffers);
  const Tensor out = Tensor::empty(device, DType::i64, {size}, MemoryKind::buffers);
  group.all_to_all(in, out).wait();
  return out.to_host<int64_t>();
}

std::vector<int64_t> gathered(Communicator& group, Device& device, const std::vector<int64_t>& counts) {
  if (group.size() == 1) return counts;
  const auto size = static_cast<int64_t>(counts.size());
  const Tensor in = Tensor::from<int64_t>(device, counts, {size}, MemoryKind::buffers);
  const Tensor out = Tensor::empty(device, DType::i64, {group.size() * size}, MemoryKind::buffers);
  group.all_gather(in, out).wait();
  return out.to_host<int64_t>();
}

Tensor exchange_rows(Communicator& group, const Tensor& rows, const std::vector<int64_t>& send,
                     const std::vector<int64_t>& receive) {
  const int64_t count = std::accumulate(receive.begin(), receive.end(), int64_t{0});
  Tensor result = Tensor::empty(rows.device(), rows.dtype(), {count, rows.dim(1)});
  group.all_to_all_v(rows, send, result, receive).wait();
  return result;
}

Tensor converted(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : x.to(dtype); }

// rows [R, D], R ≤ places → [ranks · places, D], zeros behind each rank's rows.
Tensor gather_padded(Communicator& group, const Tensor& rows, int64_t places) {
  const int64_t D = rows.dim(1), R = rows.dim(0);
  Tensor padded = rows;
  if (R < places) {
    padded = Tensor::empty(rows.device(), rows.dtype(), {places, D});
    padded.slice(0, R).copy_from(rows);
    padded.slice(R, places).fill_zero();
  }
  Tensor all = Tensor::empty(rows.device(), rows.dtype(), {group.size() * places, D});
  group.all_gather(padded, all).wait();
  return all;
}

// all [ranks · places, D] → the first `rows` of this rank's, summed over ranks.
Tensor sum_padded(Communicator& group, const Tensor& all, int64_t rows) {
  const int64_t places = all.dim(0) / group.size();
  const Tensor mine = Tensor::empty(all.device(), all.dtype(), {places, all.dim(1)});
  group.reduce_scatter(all, mine).wait();
  return mine.slice(0, rows);
}

Value exchange(Tape& tape, Communicator& group, const Value& rows, const std::vector<int64_t>& send,
               const std::vector<int64_t>& receive) {
  return tape.record("expert_exchange", exchange_rows(group, rows.tensor(), send, receive), {rows},
                     [&group, send, receive](Backward& back) {
                       if (back.wants(0)) back.give(0, exchange_rows(group, back.output_gradient(), receive, send));
                     });
}

}  // namespace

ExpertExchange::ExpertExchange(MeshGroups& groups, Device& device, const std::vector<int64_t>& counts)
    : expert_(groups[Group::expert]), expert_tensor_(groups[Group::expert_tensor]) {
  const auto E = static_cast<int64_t>(counts.size());
  const int64_t ranks = expert_.size(), tensor_ranks = expert_tensor_.size();
  TROUPE_CHECK(E % ranks == 0, "{} experts over {} ranks", E, ranks);
  const int64_t experts = E / ranks;  // of this rank
  const auto sums_by_rank = [&](const std::vector<int64_t>& of) {
    std::vector<int64_t> sums;
    for (auto at = of.begin(); at != of.end(); at += experts)
      sums.push_back(std::accumulate(at, at + experts, int64_t{0}));
    return sums;
  };
  // [expert rank, expert], of rows in that order; then [expert_tensor rank, expert rank, expert].
  const std::vector<int64_t> arriving = exchanged(expert_, device, counts);
  const std::vector<int64_t> all = gathered(expert_tensor_, device, arriving);
  sent_ = sums_by_rank(counts);
  received_ = sums_by_rank(arriving);
  arrived_ = std::accumulate(received_.begin(), received_.end(), int64_t{0});
  for (auto at = all.begin(); at != all.end(); at += E)
    most_ = std::max(most_, std::accumulate(at, at + E, int64_t{0}));

  // Where each of those runs of rows begins.
  std::vector<int64_t> begins(all.size());
  for (int64_t t = 0; t < tensor_ranks; ++t) {
    int64_t next = t * most_;
    for (int64_t i = t * E; i < (t + 1) * E; ++i) {
      begins[static_cast<size_t>(i)] = next;
      next += all[static_cast<size_t>(i)];
    }
  }
  offsets_.push_back(0);
  std::vector<int32_t> by_expert;
  std::vector<int32_t> places(static_cast<size_t>(tensor_ranks * most_), -1);
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t run = e; run < tensor_ranks * E; run += experts) {
      const int64_t begin = begins[static_cast<size_t>(run)];
      for (int64_t row = begin; row < begin + all[static_cast<size_t>(run)]; ++row) {
        places[static_cast<size_t>(row)] = static_cast<int32_t>(by_expert.size());
        by_expert.push_back(static_cast<int32_t>(row));
      }
    }
    offsets_.push_back(static_cast<int64_t>(by_expert.size()));
  }
  if (ranks == 1 && tensor_ranks == 1) return;
  const auto upload = [&](const std::vector<int32_t>& values) {
    return Tensor::from<int32_t>(device, values, {static_cast<int64_t>(values.size())});
  };
  by_expert_ = upload(by_expert);
  places_ = upload(places);
}

Value ExpertExchange::dispatch(Tape& tape, const Value& rows) const {
  Value x = expert_.size() > 1 ? exchange(tape, expert_, rows, sent_, received_) : rows;
  if (divided()) {
    const Tensor all = gather_padded(expert_tensor_, x.tensor(), most_);
    x = tape.record("expert_gather", converted(all, kernels::accumulator_of(all.dtype())), {x},
                    [&group = expert_tensor_, count = arrived_](Backward& back) {
                      if (back.wants(0)) back.give(0, sum_padded(group, back.output_gradient(), count));
                    });
  }
  return by_expert_.defined() ? permute_rows(tape, x, by_expert_, places_) : x;
}

Value ExpertExchange::collect(Tape& tape, const Value& results, DType output) const {
  Value x = by_expert_.defined() ? permute_rows(tape, results, places_, by_expert_) : results;
  if (divided()) {
    x = tape.record("expert_sum", converted(sum_padded(expert_tensor_, x.tensor(), arrived_), output), {x},
                    [&group = expert_tensor_, places = most_](Backward& back) {
                      if (back.wants(0)) back.give(0, gather_padded(group, back.output_gradient(), places));
                    });
  }
  return expert_.size() > 1 ? exchange(tape, expert_, x, received_, sent_) : x;
}

}  // namespace troupe::parallel
