#include "parallel/model/context_parallel.h"

#include <array>
#include <optional>
#include <utility>

#include "kernels/ops/kernels.h"

namespace troupe::parallel {

using kernels::AttentionOptions;
using kernels::AttentionStatistics;
using kernels::Backward;
using kernels::Device;
using kernels::DType;
using kernels::MemoryKind;
using kernels::Shape;
using kernels::Tape;
using kernels::Tensor;
using kernels::Value;

namespace {

constexpr int kKeysTag = 0, kGradientsTag = 1;

// A rank's two pieces of a sequence, each [B, s, …].
using Pieces = std::array<Tensor, 2>;

std::array<int, 2> pieces_of(int rank, int ranks) { return {rank, 2 * ranks - 1 - rank}; }

Shape piece_shape(const Shape& both) {
  std::vector<int64_t> sizes(both.sizes().begin(), both.sizes().end());
  sizes[1] /= 2;
  return Shape(sizes);
}

// [2, B, s, …] ↔ [B, 2s, …]: views where there is one sequence.
Tensor pieces_first(const Tensor& x) {
  const Shape piece = piece_shape(x.shape());
  const Shape flat{2, piece[0], piece.elements() / std::max<int64_t>(1, piece[0])};
  if (x.dim(0) == 1) return x.reshape(flat);
  Tensor result = Tensor::empty(x.device(), x.dtype(), flat);
  x.device().kernels().tensor.swap_leading(x.device(), x.reshape({flat[1], 2, flat[2]}), result);
  return result;
}
Tensor sequences_first(const Tensor& x, const Shape& both) {
  if (both[0] == 1) return x.reshape(both);
  Tensor result = Tensor::empty(x.device(), x.dtype(), both);
  const int64_t rest = x.elements() / (2 * both[0]);
  x.device().kernels().tensor.swap_leading(x.device(), x.reshape({2, both[0], rest}), result);
  return result;
}

Pieces divide(const Tensor& x) {
  const Shape piece = piece_shape(x.shape());
  const Tensor both = pieces_first(x);
  return {both.slice(0, 1).reshape(piece), both.slice(1, 2).reshape(piece)};
}

// Two pieces, each in a tensor of its own → [B, 2s, …] of `dtype`.
Tensor unite(const Pieces& pieces, const Shape& both, DType dtype) {
  Device& device = pieces[0].device();
  Tensor all = Tensor::empty(device, dtype, {2, pieces[0].elements()});
  for (int64_t i = 0; i < 2; ++i) {
    Tensor to = all.slice(i, i + 1);
    device.kernels().tensor.convert(device, pieces[static_cast<size_t>(i)], to);
  }
  return sequences_first(all, both);
}

Tensor filled(Device& device, DType dtype, const Shape& shape, double value) {
  const auto count = static_cast<size_t>(shape.elements());
  if (dtype == DType::f64) return Tensor::from<double>(device, std::vector<double>(count, value), shape);
  return Tensor::from<float>(device, std::vector<float>(count, static_cast<float>(value)), shape);
}

// What queries of piece `query` see of the s keys of piece `key`; none: nothing.
std::optional<AttentionOptions> visible(const AttentionOptions& options, const Tensor& first_visible, int query,
                                        int key, int64_t s) {
  const int64_t ahead = (query - key) * s;  // how far the first query stands behind the first key
  if (options.causal && ahead < 0) return {};
  if (options.window > 0 && ahead - options.window + 1 >= s) return {};
  AttentionOptions part = options;
  part.query_offset = std::max<int64_t>(ahead, 0);
  if (!first_visible.defined()) return part;
  std::vector<int32_t> first = first_visible.to_host<int32_t>();
  bool any = false;
  for (int32_t& f : first) {
    f = static_cast<int32_t>(std::max<int64_t>(0, f - key * s));
    any = any || f < s;
  }
  if (!any) return {};
  part.first_visible = Tensor::from<int32_t>(first_visible.device(), first, first_visible.shape(), MemoryKind::buffers);
  return part;
}

// What both ways keep between forward and backward, and what they do to one pair of pieces.
struct Queries {
  AttentionOptions options;  // of the whole
  Pieces q, first_visible;
  Tensor output;  // [2, B · s · H · d]
  std::array<AttentionStatistics, 2> statistics;
  std::array<int, 2> piece{};
  Shape shape;  // [B, 2s, H, d]
  int64_t s = 0;

  Queries(Communicator& context, const Tensor& query, AttentionOptions given)
      : options(std::move(given)),
        q(divide(query)),
        piece(pieces_of(context.rank(), context.size())),
        shape(query.shape()),
        s(query.dim(1) / 2) {
    TROUPE_CHECK(query.dim(1) % 2 == 0, "{} tokens of a sequence are not two pieces", query.dim(1));
    if (options.first_visible.defined()) first_visible = divide(std::exchange(options.first_visible, {}));
  }
  void make_output() { output = Tensor::empty(q[0].device(), q[0].dtype(), {2, q[0].elements()}); }
  Tensor o(size_t mine) const {
    const auto i = static_cast<int64_t>(mine);
    return output.slice(i, i + 1).reshape(q[0].shape());
  }
  std::optional<AttentionOptions> sees(size_t mine, int key) const {
    return visible(options, first_visible[mine], piece[mine], key, s);
  }
};

// Outputs over the keys that were seen so far, of both pieces.
class Joining {
 public:
  Joining(Device& device, const Queries& queries, const Tensor& keys) : device_(device) {
    for (size_t i = 0; i < 2; ++i) {
      const Tensor& q = queries.q[i];
      const DType sums = kernels::accumulator_of(q.dtype());
      sum_[i] = Tensor::zeros(device, sums, q.shape());
      lse_[i] = filled(device, sums, {q.dim(0), keys.dim(2), q.dim(1), q.dim(2) / keys.dim(2)},
                       -std::numeric_limits<double>::infinity());
    }
  }

  void see(const Queries& queries, const Pieces& k, const Pieces& v, std::array<int, 2> key_piece) {
    for (size_t i = 0; i < 2; ++i) {
      for (size_t j = 0; j < 2; ++j) {
        const auto options = queries.sees(i, key_piece[j]);
        if (!options) continue;
        const Tensor& q = queries.q[i];
        Tensor o = Tensor::empty(device_, q.dtype(), q.shape());
        AttentionStatistics statistics = AttentionStatistics::empty(device_, q, k[j]);
        device_.kernels().attention.forward(device_, q, k[j], v[j], *options, o, &statistics);
        device_.kernels().attention.join(device_, o, statistics, sum_[i], lse_[i]);
      }
    }
  }

  void end(Queries& queries) {
    queries.make_output();
    for (size_t i = 0; i < 2; ++i) {
      const Tensor& q = queries.q[i];
      Tensor o = queries.o(i);
      queries.statistics[i].lse = lse_[i];
      if (q.dtype() == DType::bf16) queries.statistics[i].o_low = Tensor::empty(device_, DType::u8, q.shape());
      device_.kernels().attention.round(device_, sum_[i], o, queries.statistics[i].o_low);
      sum_[i] = Tensor();
    }
  }

 private:
  Device& device_;
  Pieces sum_, lse_;
};

// Adds up the gradients of pairs of pieces: those of q here, those of keys and values where the caller says.
class Gradients {
 public:
  Gradients(Device& device, const Queries& queries, const Tensor& d_o)
      : device_(device), queries_(queries), d_o_(divide(d_o)) {
    for (size_t i = 0; i < 2; ++i)
      dq_[i] = Tensor::zeros(device, kernels::accumulator_of(d_o.dtype()), queries.q[i].shape());
  }

  // One piece of keys; dk and dv, of their accumulator's dtype, are added to.
  void see(size_t mine, int key_piece, const Tensor& k, const Tensor& v, Tensor& dk, Tensor& dv) {
    if (const auto options = queries_.sees(mine, key_piece)) add(mine, *options, k, v, dk, dv);
  }
  void add(size_t mine, const AttentionOptions& options, const Tensor& k, const Tensor& v, Tensor& dk, Tensor& dv) {
    const kernels::Kernels& kernels = device_.kernels();
    const Tensor& q = queries_.q[mine];
    Tensor part_q = Tensor::empty(device_, q.dtype(), q.shape()), part_k = Tensor::empty(device_, k.dtype(), k.shape()),
           part_v = Tensor::empty(device_, v.dtype(), v.shape());
    kernels.attention.backward(device_, q, k, v, queries_.o(mine), queries_.statistics[mine], d_o_[mine], options,
                               &part_q, &part_k, &part_v);
    kernels.tensor.add_into(device_, part_q, dq_[mine]);
    kernels.tensor.add_into(device_, part_k, dk);
    kernels.tensor.add_into(device_, part_v, dv);
  }
  Tensor of_queries(DType dtype) const { return unite(dq_, queries_.shape, dtype); }

 private:
  Device& device_;
  const Queries& queries_;
  Pieces d_o_, dq_;
};

// A rank's keys and values, or their gradients, in one tensor, as they travel: [2 (keys, values), 2 pieces, B, s, K,
// d].
class Travelling {
 public:
  static Travelling of(const Tensor& k, const Tensor& v) {
    Travelling t(k.device(), k.dtype(), k.shape());
    for (int64_t i = 0; i < 2; ++i) {
      Tensor to = t.all_.slice(i, i + 1);
      to.copy_from(pieces_first(i == 0 ? k : v));
    }
    return t;
  }
  // `both`: the shape of a rank's keys, [B, 2s, K, d].
  Travelling(Device& device, DType dtype, const Shape& both)
      : both_(both), all_(Tensor::empty(device, dtype, {2, 2, both.elements() / 2})) {}

  const Tensor& all() const { return all_; }
  Pieces keys() const { return pieces(0); }
  Pieces values() const { return pieces(1); }
  // [B, 2s, K, d] of `dtype`.
  Tensor united(int64_t which, DType dtype) const { return unite(pieces(which), both_, dtype); }

 private:
  Pieces pieces(int64_t which) const {
    const Tensor half = all_.slice(which, which + 1).reshape({2, both_.elements() / 2});
    return {half.slice(0, 1).reshape(piece_shape(both_)), half.slice(1, 2).reshape(piece_shape(both_))};
  }

  Shape both_;
  Tensor all_;
};

class Ring {
 public:
  explicit Ring(Communicator& context) : context_(context) {}
  int turns() const { return context_.size(); }
  // Whose keys are here in a turn.
  std::array<int, 2> pieces(int turn) const { return pieces_of((context_.rank() - turn + turns()) % turns(), turns()); }
  // Sends what is here on, and begins to receive what the rank before had.
  struct Hop {
    Pending out, in;
    void wait() {
      out.wait();
      in.wait();
    }
  };
  Hop begin(const Tensor& here, const Tensor& next, int tag) {
    const int c = turns(), r = context_.rank();
    Hop hop;
    hop.out = context_.send(here, (r + 1) % c, tag);
    hop.in = context_.receive(next, (r + c - 1) % c, tag);
    return hop;
  }

 private:
  Communicator& context_;
};

Value ring_attention(Tape& tape, Communicator& context, const Value& q, const Value& k, const Value& v,
                     const AttentionOptions& options) {
  Device& device = tape.device();
  auto queries = std::make_shared<Queries>(context, q.tensor(), options);
  const Travelling mine = Travelling::of(k.tensor(), v.tensor());
  {
    Ring ring(context);
    Joining joining(device, *queries, k.tensor());
    Travelling here = mine;
    for (int turn = 0; turn < ring.turns(); ++turn) {
      std::optional<Travelling> next;
      Ring::Hop hop;
      if (turn + 1 < ring.turns()) {
        next.emplace(device, k.dtype(), k.shape());
        hop = ring.begin(here.all(), next->all(), kKeysTag);
      }
      joining.see(*queries, here.keys(), here.values(), ring.pieces(turn));
      hop.wait();
      if (next) here = *next;
    }
    joining.end(*queries);
  }
  Tensor o = sequences_first(queries->output, queries->shape);
  return tape.record("attention", std::move(o), {q, k, v},
                     [&context, queries, mine, shape = k.shape()](Backward& back) {
                       if (!back.wants(0) && !back.wants(1) && !back.wants(2)) return;
                       Device& device = back.device();
                       Ring ring(context);
                       const DType dtype = mine.all().dtype(), sums = kernels::accumulator_of(dtype);
                       Gradients gradients(device, *queries, back.output_gradient());
                       Travelling here = mine;
                       // Gradients of the keys that are here, from the ranks that had them before this one.
                       Travelling sum(device, sums, shape);
                       for (int turn = 0; turn < ring.turns(); ++turn) {
                         std::optional<Travelling> next;
                         Ring::Hop hop, gradients_hop;
                         if (turn + 1 < ring.turns()) {
                           next.emplace(device, dtype, shape);
                           hop = ring.begin(here.all(), next->all(), kKeysTag);
                         }
                         Travelling arriving(device, sums, shape);
                         if (turn > 0) gradients_hop = ring.begin(sum.all(), arriving.all(), kGradientsTag);
                         Travelling part(device, sums, shape);
                         Tensor part_all = part.all();
                         part_all.fill_zero();
                         Pieces dk = part.keys(), dv = part.values();
                         const Pieces keys = here.keys(), values = here.values();
                         for (size_t i = 0; i < 2; ++i) {
                           for (size_t j = 0; j < 2; ++j)
                             gradients.see(i, ring.pieces(turn)[j], keys[j], values[j], dk[j], dv[j]);
                         }
                         hop.wait();
                         gradients_hop.wait();
                         if (turn > 0) {
                           Tensor to = arriving.all();
                           device.kernels().tensor.add_into(device, part_all, to);
                           sum = arriving;
                         } else {
                           sum = part;
                         }
                         if (next) here = *next;
                       }
                       // Home from the rank that had them last.
                       Travelling home(device, sums, shape);
                       ring.begin(sum.all(), home.all(), kGradientsTag).wait();
                       if (back.wants(0)) back.give(0, gradients.of_queries(dtype));
                       if (back.wants(1)) back.give(1, home.united(0, dtype));
                       if (back.wants(2)) back.give(2, home.united(1, dtype));
                     });
}

// [c, 2 (keys, values), 2 pieces, B, s, K, d] as ranks have them ↔ [B, T, K, d] in the order of the sequence.
void reorder(const Tensor& by_rank, Tensor& keys, Tensor& values, int ranks, bool to_sequence) {
  const int64_t B = keys.dim(0), pieces = 2 * ranks, row = keys.elements() / (B * pieces);
  Tensor flat = by_rank.reshape({ranks * 4 * B, row});
  for (int rank = 0; rank < ranks; ++rank) {
    for (int64_t which = 0; which < 2; ++which) {
      Tensor ordered = (which == 0 ? keys : values).reshape({B * pieces, row});
      for (int64_t i = 0; i < 2; ++i) {
        for (int64_t b = 0; b < B; ++b) {
          const int64_t from = ((rank * 2 + which) * 2 + i) * B + b;
          const int64_t to = b * pieces + pieces_of(rank, ranks)[static_cast<size_t>(i)];
          Tensor mine = flat.slice(from, from + 1), theirs = ordered.slice(to, to + 1);
          if (to_sequence) theirs.copy_from(mine);
          else mine.copy_from(theirs);
        }
      }
    }
  }
}

// All keys and values of the sequences: [B, T, K, d].
struct Gathered {
  Tensor keys, values;
};
Gathered gather(Communicator& context, const Travelling& mine, const Shape& both) {
  Device& device = mine.all().device();
  const Shape whole{both[0], both[1] * context.size(), both[2], both[3]};
  Tensor all = Tensor::empty(device, mine.all().dtype(), {context.size(), mine.all().elements()});
  context.all_gather(mine.all(), all).wait();
  Gathered gathered{Tensor::empty(device, all.dtype(), whole), Tensor::empty(device, all.dtype(), whole)};
  reorder(all, gathered.keys, gathered.values, context.size(), true);
  return gathered;
}

AttentionOptions among_all_keys(const Queries& queries, size_t mine) {
  AttentionOptions options = queries.options;
  options.query_offset = queries.piece[mine] * queries.s;
  options.first_visible = queries.first_visible[mine];
  return options;
}

Value gathered_attention(Tape& tape, Communicator& context, const Value& q, const Value& k, const Value& v,
                         const AttentionOptions& options) {
  Device& device = tape.device();
  auto queries = std::make_shared<Queries>(context, q.tensor(), options);
  const Travelling mine = Travelling::of(k.tensor(), v.tensor());
  {
    const Gathered all = gather(context, mine, k.shape());
    queries->make_output();
    for (size_t i = 0; i < 2; ++i) {
      const Tensor& piece = queries->q[i];
      Tensor o = queries->o(i);
      queries->statistics[i] = AttentionStatistics::empty(device, piece, all.keys);
      device.kernels().attention.forward(device, piece, all.keys, all.values, among_all_keys(*queries, i), o,
                                         &queries->statistics[i]);
    }
  }
  Tensor o = sequences_first(queries->output, queries->shape);
  return tape.record(
      "attention", std::move(o), {q, k, v}, [&context, queries, mine, shape = k.shape()](Backward& back) {
        if (!back.wants(0) && !back.wants(1) && !back.wants(2)) return;
        Device& device = back.device();
        const DType dtype = mine.all().dtype(), sums = kernels::accumulator_of(dtype);
        Gradients gradients(device, *queries, back.output_gradient());
        Travelling home(device, sums, shape);
        {
          const Gathered all = gather(context, mine, shape);
          Tensor dk = Tensor::zeros(device, sums, all.keys.shape()), dv = Tensor::zeros(device, sums, all.keys.shape());
          for (size_t i = 0; i < 2; ++i) gradients.add(i, among_all_keys(*queries, i), all.keys, all.values, dk, dv);
          Tensor by_rank = Tensor::empty(device, sums, {context.size(), home.all().elements()});
          reorder(by_rank, dk, dv, context.size(), false);
          context.reduce_scatter(by_rank, home.all()).wait();
        }
        if (back.wants(0)) back.give(0, gradients.of_queries(dtype));
        if (back.wants(1)) back.give(1, home.united(0, dtype));
        if (back.wants(2)) back.give(2, home.united(1, dtype));
      });
}

}  // namespace

ContextExchange context_exchange_for(const AttentionOptions& options) {
  const bool plain = options.window == 0 && !options.first_visible.defined();
  return plain ? ContextExchange::ring : ContextExchange::gather;
}

Value context_attention(Tape& tape, Communicator& context, ContextExchange exchange, const Value& q, const Value& k,
                        const Value& v, const AttentionOptions& options) {
  TROUPE_CHECK(!options.query_offsets.defined() && options.query_offset == 0 && options.keys == 0,
               "attention over divided sequences takes no KV cache");
  if (context.size() == 1) return attention(tape, q, k, v, options);
  if (exchange == ContextExchange::ring) return ring_attention(tape, context, q, k, v, options);
  return gathered_attention(tape, context, q, k, v, options);
}

}  // namespace troupe::parallel
