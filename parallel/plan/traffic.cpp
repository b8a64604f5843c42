#include "parallel/plan/traffic.h"

#include <algorithm>
#include <map>

namespace troupe::parallel {
namespace {

// What a rank sends of a whole of `bytes`.
double sent(Collective collective, double bytes, double ranks) {
  switch (collective) {
    case Collective::all_gather:
    case Collective::reduce_scatter:
    case Collective::all_to_all: return bytes * (ranks - 1) / ranks;
    case Collective::all_reduce: return 2 * bytes * (ranks - 1) / ranks;
    case Collective::ring:
    case Collective::send: break;
  }
  return bytes;
}

class Collected {
 public:
  explicit Collected(const MeshSizes& mesh) : mesh_(mesh) { transfers_.reserve(12); }

  // `bytes`: of the whole that the collective gathers, sums or exchanges; of one message of a ring or a send.
  void add(Group group, Collective collective, Moment moment, double bytes, double count) {
    const int ranks = size_of(group, mesh_);
    if (ranks > 1 && bytes > 0 && count > 0)
      transfers_.push_back({group, collective, moment, sent(collective, bytes, ranks), count});
  }
  Transfers take() { return std::move(transfers_); }

 private:
  const MeshSizes& mesh_;
  Transfers transfers_;
};

struct BlockBytes {
  double gathered;         // a part's input, of all tensor ranks
  double summed;           // its output, before it is rounded
  double keys, gradients;  // one ring message of keys and values, and of their gradients
  double rows;             // what a rank sends to experts
};

// Tensor parallel traffic of attention or of a feed-forward: `again` forward passes are repeated in backward.
void add_part(Collected& to, Group group, const BlockBytes& part, double again, double rows = 1) {
  to.add(group, Collective::all_gather, Moment::forward, rows * part.gathered, 1);
  to.add(group, Collective::reduce_scatter, Moment::forward, rows * part.summed, 1);
  to.add(group, Collective::all_gather, Moment::backward, rows * part.gathered, 2 + again);
  to.add(group, Collective::reduce_scatter, Moment::backward, rows * part.summed, 1 + again);
}

void add_attention(Collected& to, const MeshSizes& mesh, const BlockBytes& bytes, double again) {
  add_part(to, Group::tensor, bytes, again);
  to.add(Group::context, Collective::ring, Moment::forward, bytes.keys, mesh.context - 1);
  to.add(Group::context, Collective::ring, Moment::backward, bytes.keys, (1 + again) * (mesh.context - 1));
  to.add(Group::context, Collective::ring, Moment::backward, bytes.gradients, mesh.context);
}

}  // namespace

std::string_view name_of(Collective collective) {
  switch (collective) {
    case Collective::all_gather: return "all-gather";
    case Collective::reduce_scatter: return "reduce-scatter";
    case Collective::all_reduce: return "all-reduce";
    case Collective::all_to_all: return "all-to-all";
    case Collective::ring: return "ring";
    case Collective::send: break;
  }
  return "send";
}

std::string_view name_of(Moment moment) {
  switch (moment) {
    case Moment::forward: return "forward";
    case Moment::backward: return "backward";
    case Moment::gradients: return "gradients";
    case Moment::parameters: break;
  }
  return "parameters";
}

MicrobatchTraffic microbatch_traffic(const DecoderConfig& m, Numerics numerics, const Layout& layout,
                                     const StepShape& shape, Recompute recompute) {
  const MeshSizes& mesh = layout.mesh;
  const auto c = static_cast<double>(kernels::size_of(numerics.compute));
  const auto r = static_cast<double>(kernels::size_of(numerics.residual));
  const auto a = static_cast<double>(kernels::size_of(kernels::accumulator_of(numerics.compute)));
  const auto tokens = static_cast<double>(shape.tokens(mesh));
  const auto width = static_cast<double>(m.width), t = static_cast<double>(mesh.tensor);
  const double kv =
      2 * static_cast<double>(m.kv_heads * m.head_width) / std::min<double>(t, static_cast<double>(m.kv_heads));
  const double rows = tokens / t * static_cast<double>(m.experts.per_token) * width * c;
  const BlockBytes bytes{tokens * width * c, tokens * width * r, tokens * kv * c, tokens * kv * a, rows};
  const double attention_again = recompute == Recompute::none ? 0 : 1;
  const double block_again = recompute == Recompute::block ? 1 : 0;

  MicrobatchTraffic traffic;
  Collected dense(mesh), sparse(mesh), embedding(mesh), head(mesh), boundary(mesh);
  add_attention(dense, mesh, bytes, attention_again);
  add_part(dense, Group::tensor, bytes, block_again);
  traffic.dense_block = dense.take();
  if (m.experts.count > 0) {
    add_attention(sparse, mesh, bytes, attention_again);
    if (m.experts.shared > 0) add_part(sparse, Group::tensor, bytes, block_again);
    sparse.add(Group::expert, Collective::all_to_all, Moment::forward, rows, 2);
    sparse.add(Group::expert, Collective::all_to_all, Moment::backward, rows, 2 * (1 + block_again));
    add_part(sparse, Group::expert_tensor, bytes, block_again, rows * mesh.expert_tensor / bytes.gathered);
    traffic.sparse_block = sparse.take();
  }
  embedding.add(Group::tensor, Collective::reduce_scatter, Moment::forward, tokens * width * r, 1);
  embedding.add(Group::tensor, Collective::all_gather, Moment::backward, tokens * width * r, 1);
  traffic.embedding = embedding.take();
  head.add(Group::tensor, Collective::all_gather, Moment::forward, bytes.gathered, 1);
  head.add(Group::tensor, Collective::all_gather, Moment::backward, bytes.gathered, 1);
  head.add(Group::tensor, Collective::reduce_scatter, Moment::backward, bytes.summed, 1);
  head.add(Group::tensor, Collective::all_gather, Moment::forward, t * tokens * a, 2);
  traffic.head = head.take();
  boundary.add(Group::pipeline, Collective::send, Moment::forward, tokens / t * width * r, 1);
  boundary.add(Group::pipeline, Collective::send, Moment::backward, tokens / t * width * r, 1);
  traffic.boundary = boundary.take();
  return traffic;
}

Transfers state_traffic(const HeldModel& held, const StageLayers& layers, const Layout& layout, Numerics numerics) {
  const auto c = static_cast<double>(kernels::size_of(numerics.compute));
  const auto a = static_cast<double>(kernels::size_of(kernels::accumulator_of(numerics.compute)));
  // Each unit's buckets move on their own (parallel/schedule/instructions.h); here all of a group count as one.
  std::map<Group, std::pair<double, double>> groups;  // elements, bytes of what is computed with
  for (const HeldUnits& units : held_units(held, layers)) {
    for (const HeldParameters& h : *units.unit) {
      const double elements = static_cast<double>(units.count * h.elements);
      groups[h.group].first += elements;
      groups[h.group].second += (h.multiplied ? c : a) * elements;
    }
  }
  Collected to(layout.mesh);
  for (const auto& [group, sums] : groups) {
    to.add(group, layout.zero == 0 ? Collective::all_reduce : Collective::reduce_scatter, Moment::gradients,
           a * sums.first, 1);
    if (layout.zero > 0) to.add(group, Collective::all_gather, Moment::parameters, sums.second, 1);
  }
  return to.take();
}

double state_operations(const Layout& layout, Moment moment, int64_t microbatches) {
  const auto m = static_cast<double>(microbatches);
  if (moment == Moment::gradients) return layout.zero >= 2 ? m : 1;
  return layout.zero == 3 ? 2 * m : 1;
}

Transfers step_traffic(const DecoderConfig& config, Numerics numerics, const Layout& layout, const StepShape& shape,
                       Recompute recompute, int stage) {
  const MeshSizes& mesh = layout.mesh;
  const MicrobatchTraffic each = microbatch_traffic(config, numerics, layout, shape, recompute);
  const StageLayers layers = stage_layers(config, layout, shape.sequence_length)[static_cast<size_t>(stage)];
  const int64_t microbatches = shape.microbatches(mesh);
  Transfers all;
  const auto add = [&](const Transfers& some, double times) {
    for (Transfer transfer : some) {
      transfer.count *= times;
      if (transfer.count == 0) continue;
      const auto same = std::ranges::find_if(all, [&](const Transfer& t) {
        return t.group == transfer.group && t.collective == transfer.collective && t.moment == transfer.moment &&
               t.bytes == transfer.bytes;
      });
      if (same == all.end()) all.push_back(transfer);
      else same->count += transfer.count;
    }
  };
  const auto m = static_cast<double>(microbatches);
  add(each.dense_block, m * static_cast<double>(layers.dense));
  add(each.sparse_block, m * static_cast<double>(layers.sparse));
  if (layers.first) add(each.embedding, m);
  if (layers.last) add(each.head, m);
  for (Transfer transfer : each.boundary) {
    // The last virtual stage sends nothing on, the first nothing back.
    const bool at_end = transfer.moment == Moment::forward ? layers.last : layers.first;
    add({transfer}, m * (layout.virtual_stages - (at_end ? 1 : 0)));
  }
  for (Transfer transfer : state_traffic(held_model(config, mesh), layers, layout, numerics))
    add({transfer}, state_operations(layout, transfer.moment, microbatches));
  return all;
}

Links links_of(const DeviceSpec& device, const MeshSizes& mesh, Group group) {
  const int ranks = size_of(group, mesh);
  if (ranks == 1 || mesh.ranks() <= device.node_devices) return {ranks, ranks};
  // The first node stands for all.
  const GroupPlace first = *place_in(group, Mesh(mesh, 0));
  int in_node = 1;
  for (int rank = 1; rank < device.node_devices; ++rank) {
    const auto place = place_in(group, Mesh(mesh, rank));
    if (place && place->group == first.group) ++in_node;
  }
  return {ranks, in_node};
}

double transfer_seconds(const DeviceSpec& device, const MeshSizes& mesh, const Transfer& transfer) {
  const Links links = links_of(device, mesh, transfer.group);
  double bandwidth = 0;
  switch (transfer.collective) {
    case Collective::all_gather:
    case Collective::reduce_scatter:
    case Collective::all_reduce: bandwidth = links.ring_bandwidth(device); break;
    case Collective::all_to_all: bandwidth = links.cross_bandwidth(device); break;
    case Collective::ring:
    case Collective::send: bandwidth = links.pair_bandwidth(device); break;
  }
  return transfer.count * (links.latency(device) + transfer.bytes / bandwidth);
}

}  // namespace troupe::parallel
