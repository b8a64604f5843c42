// Mixtures of experts: one rank against plain loops, layouts of ranks as threads against one rank.
#include "parallel/model/mixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <thread>

#include "kernels/ops/kernels.h"
#include "parallel/model/whole_tensor.h"
#include "parallel/schedule/step_plan.h"
#include "runtime/base/random.h"
#include "runtime/base/trace.h"

namespace troupe::parallel {
namespace {

using kernels::DType;
using kernels::Shape;

DecoderConfig config_of(RouterScore score, MlpKind mlp = MlpKind::swiglu) {
  DecoderConfig c;
  c.vocabulary = 8;
  c.layers = 2;
  c.width = 6;
  c.heads = 1;
  c.hidden = 16;
  c.mlp = mlp;
  c.initial_deviation = 0.6f;
  c.experts.count = 8;
  c.experts.per_token = 3;
  c.experts.hidden = 8;
  c.experts.shared = 1;
  c.experts.score = score;
  c.experts.scale = 1.5f;
  c.experts.balance_loss = 0.7f;
  c.experts.z_loss = 0.2f;
  c.experts.bias_rate = 0.125f;
  EXPECT_TRUE(c.complete().ok());
  return c;
}

std::vector<double> draws(const std::string& name, int64_t count) {
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = normal(hash_name(name), i);
  return values;
}

// S sequences of T tokens, padded to whole pieces, and what a layer makes of them.
struct Problem {
  int64_t S = 4, T = 7, padded = 8, D = 6;
  DType compute = DType::f64;
  std::shared_ptr<const Routing> replayed = {};
  bool recompute = false;
  std::function<double(int64_t s, int64_t t, int64_t i)> x = {};  // empty: drawn

  std::vector<double> tokens(const std::string& name) const { return draws(name, S * padded * D); }
};

struct Result {
  std::vector<double> y, dx;  // [S, padded, D]; of padding NaN in x is never read: it is as drawn
  std::map<std::string, std::vector<double>> gradients;
  std::vector<int64_t> loads;
  double balance_loss = 0, z_loss = 0;
  Routing routing;
  std::vector<std::string> forward, backward;  // collectives of rank 0: "kind in group"
};

class Collectives final : public TraceSink {
 public:
  explicit Collectives(std::string group) : group_(std::move(group)) {}
  void span(const TraceSpan& span) override {
    if (span.name != "wait for other ranks") into->push_back(std::string(span.name) + " in " + group_);
  }
  void sent(uint64_t, std::chrono::nanoseconds, int64_t) override {}
  std::vector<std::string>* into = nullptr;

 private:
  std::string group_;
};

// One rank's share. Tokens of a sequence are divided over context and then tensor ranks, evenly.
void run_rank(const DecoderConfig& c, const Problem& p, MeshGroups& groups, Result& all, std::mutex& mutex) {
  const Mesh& mesh = groups.mesh();
  const auto device = kernels::make_cpu_device(1);
  ParameterSet parameters(groups, *device, Numerics::of(p.compute), true);
  MixtureOfExperts layer(parameters, "blocks.1", c, 1);
  parameters.allocate();
  for (Parameter* parameter : parameters.all()) parameter->initialize(3);
  // Not all alike: some experts are chosen less.
  parameters.find("blocks.1.router.bias")
      ->assign(kernels::Tensor::from<double>(*device, std::vector<double>{0, 0.1, -0.1, 0, 0.2, 0, -0.3, 0}, {8}));

  const int64_t B = p.S / mesh.size(Axis::data), n = p.padded / (mesh.size(Axis::context) * mesh.size(Axis::tensor));
  const int64_t first_sequence = mesh.rank(Axis::data) * B;
  const int64_t first = (mesh.rank(Axis::context) * mesh.size(Axis::tensor) + mesh.rank(Axis::tensor)) * n;
  const auto own = [&](const std::vector<double>& whole) {
    std::vector<double> part;
    for (int64_t b = first_sequence; b < first_sequence + B; ++b) {
      const auto at = whole.begin() + (b * p.padded + first) * p.D;
      part.insert(part.end(), at, at + n * p.D);
    }
    return kernels::Tensor::from<double>(*device, part, {B, n, p.D}).to(p.compute);
  };
  std::vector<int32_t> indices;
  std::vector<int64_t> ids;
  for (int64_t b = 0; b < B; ++b) {
    ids.push_back(100 + first_sequence + b);
    for (int64_t t = first; t < first + n; ++t) indices.push_back(static_cast<int32_t>(t < p.T ? t : -1));
  }
  Batch batch;
  batch.training = true;
  batch.shard_indices = kernels::Tensor::from<int32_t>(*device, indices, {B, n});
  batch.sequence_ids = kernels::Tensor::from<int64_t>(*device, ids, {B});
  batch.sequences_in_step = p.S;
  batch.tokens_in_step = p.S * p.T;
  batch.router = std::make_shared<RouterFindings>();
  batch.recorded = std::make_shared<Routing>();
  batch.replayed = p.replayed;

  std::vector<std::unique_ptr<Collectives>> sinks;
  const auto listen = [&](std::vector<std::string>& to) {
    for (Group g : {Group::tensor, Group::sequence, Group::expert, Group::expert_tensor}) {
      if (groups[g].size() == 1) continue;
      sinks.push_back(std::make_unique<Collectives>(std::string(name_of(g))));
      sinks.back()->into = &to;
      groups[g].trace_to(sinks.back().get());
    }
  };
  std::vector<std::string> forward, backward;
  std::vector<double> inputs = p.tokens("x");
  for (int64_t s = 0; s < p.S && p.x; ++s) {
    for (int64_t i = 0; i < p.padded * p.D; ++i)
      inputs[static_cast<size_t>(s * p.padded * p.D + i)] = p.x(s, i / p.D, i % p.D);
  }
  Tape tape(*device);
  const Value x = tape.input(own(inputs));
  const auto body = [&](Tape& t, const Value& in) { return layer(t, in, batch); };
  listen(forward);
  const Value y = p.recompute ? tape.recompute(x, body) : body(tape, x);
  listen(backward);
  const kernels::Tensor dy = own(p.tokens("dy"));
  tape.backward(std::span(&y, 1), std::span(&dy, 1));
  for (Group g : {Group::tensor, Group::sequence, Group::expert, Group::expert_tensor}) groups[g].trace_to(nullptr);
  for (ParameterBucket* bucket : parameters.buckets()) {
    if (size_of(bucket->group(), mesh.sizes()) == 1) {
      bucket->complete_gradients();
      continue;
    }
    Pending pending = bucket->start_reduction();
    bucket->finish_reduction(pending);
  }
  std::map<std::string, std::vector<double>> gradients;
  for (const Parameter* parameter : parameters.all()) {
    if (parameter->spec().state) continue;
    gradients[std::string(parameter->name())] =
        whole_tensor(parameters, parameter->spec(), [](const ParameterBucket& b) {
          return b.gradients();
        }).to_host<double>();
  }

  const std::lock_guard lock(mutex);
  const auto put = [&](const kernels::Tensor& part, std::vector<double>& whole) {
    whole.resize(static_cast<size_t>(p.S * p.padded * p.D));
    const std::vector<double> values = part.to_host<double>();
    for (int64_t i = 0; i < part.elements(); ++i) {
      const int64_t b = i / (n * p.D);
      whole[static_cast<size_t>(((first_sequence + b) * p.padded + first) * p.D + i % (n * p.D))] =
          values[static_cast<size_t>(i)];
    }
  };
  put(y.tensor(), all.y);
  put(tape.gradient(x), all.dx);
  if (mesh.rank() == 0) {
    all.gradients = std::move(gradients);
    all.forward = forward;
    all.backward = backward;
  }
  const RouterFindings::Layer& found = batch.router->layers.at(1);
  all.loads.resize(found.loads.size());
  for (size_t e = 0; e < found.loads.size(); ++e) all.loads[e] += found.loads[e];
  all.balance_loss += found.balance_loss;
  all.z_loss += found.z_loss;
  all.routing.add(*batch.recorded);
}

Result run(const DecoderConfig& c, const Problem& p, const MeshSizes& sizes) {
  Result result;
  std::mutex mutex;
  if (sizes.ranks() == 1) {
    MeshGroups alone;
    run_rank(c, p, alone, result, mutex);
    return result;
  }
  auto world = make_thread_communicators(sizes.ranks(), "world", {.deadline = std::chrono::seconds(30)});
  std::vector<std::thread> threads;
  for (int rank = 0; rank < sizes.ranks(); ++rank) {
    threads.emplace_back([&, rank] {
      Communicator& mine = *world[static_cast<size_t>(rank)];
      try {
        MeshGroups groups(Mesh(sizes, rank), mine);
        run_rank(c, p, groups, result, mutex);
      } catch (const std::exception& e) {
        ADD_FAILURE() << "rank " << rank << ": " << e.what();
        mine.abort(e.what());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return result;
}

void expect_near(const std::vector<double>& found, const std::vector<double>& expected, double bound,
                 const std::string& what) {
  ASSERT_EQ(found.size(), expected.size()) << what;
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], bound * std::max(1.0, std::abs(expected[i]))) << what << "[" << i << "]";
}

void expect_same(const Result& found, const Result& expected, double bound = 1e-12) {
  expect_near(found.y, expected.y, bound, "y");
  expect_near(found.dx, expected.dx, bound, "dx");
  ASSERT_EQ(found.gradients.size(), expected.gradients.size());
  for (const auto& [name, gradient] : expected.gradients) expect_near(found.gradients.at(name), gradient, bound, name);
  EXPECT_EQ(found.loads, expected.loads);
  EXPECT_NEAR(found.balance_loss, expected.balance_loss, bound);
  EXPECT_NEAR(found.z_loss, expected.z_loss, bound);
}

const std::vector<MeshSizes>& layouts() {
  static const std::vector<MeshSizes> all{
      {.data = 4, .expert = 4},
      {.data = 2, .expert = 1, .expert_tensor = 2},
      {.data = 2, .expert = 1},
      {.tensor = 4, .expert = 2},
      {.data = 2, .tensor = 2, .expert = 2, .expert_tensor = 2},
      {.tensor = 4, .expert = 1, .expert_tensor = 4},
      {.data = 2, .context = 2, .tensor = 2, .expert = 4, .expert_tensor = 2},
      {.data = 4, .context = 2, .expert = 2, .expert_tensor = 2},
      {.data = 2, .context = 4, .expert = 8},
  };
  return all;
}

// What the layer is, in loops over tokens and experts. Gradients: finite differences of this.
class DenseLoop {
 public:
  DenseLoop(const DecoderConfig& c, const Problem& p) : c_(c), p_(p) {
    const auto device = kernels::make_cpu_device(1);
    ParameterSet set(*device, Numerics::of(DType::f64), true);
    const MixtureOfExperts layer(set, "blocks.1", c, 1);
    set.allocate();
    for (Parameter* parameter : set.all()) {
      parameter->initialize(3);
      values[std::string(parameter->name()).substr(9)] = parameter->value().to_host<double>();
    }
    bias_ = {0, 0.1, -0.1, 0, 0.2, 0, -0.3, 0};
    values["x"] = p.tokens("x");
  }

  // Σ dy · y + balance loss + z-loss, for tokens without padding.
  double objective() {
    const std::vector<double> dy = p_.tokens("dy");
    const int64_t E = c_.experts.count, k = c_.experts.per_token;
    double sum = 0;
    y.assign(dy.size(), 0);
    loads.assign(static_cast<size_t>(E), 0);
    balance_loss = z_loss = 0;
    for (int64_t s = 0; s < p_.S; ++s) {
      std::vector<double> shares(static_cast<size_t>(E), 0), counts(static_cast<size_t>(E), 0);
      for (int64_t t = 0; t < p_.T; ++t) {
        const size_t row = static_cast<size_t>((s * p_.padded + t) * p_.D);
        const std::vector<double> z = product("router.weight", 0, E, p_.D, values["x"].data() + row);
        double exponentials = 0, total = 0;
        for (double v : z) exponentials += std::exp(v);
        std::vector<double> score;
        for (double v : z)
          score.push_back(c_.experts.score == RouterScore::softmax ? std::exp(v) / exponentials
                                                                   : 1 / (1 + std::exp(-v)));
        for (double v : score) total += v;
        for (size_t e = 0; e < score.size(); ++e) shares[e] += score[e] / total;
        z_loss += c_.experts.z_loss * std::pow(std::log(exponentials), 2) / static_cast<double>(p_.S * p_.T);
        double chosen_sum = 0;
        std::vector<bool> chosen(static_cast<size_t>(E), false);
        for (int64_t j = 0; j < k; ++j) {
          size_t best = chosen.size();
          for (size_t e = 0; e < chosen.size(); ++e) {
            if (!chosen[e] && (best == chosen.size() || score[e] + bias_[e] > score[best] + bias_[best])) best = e;
          }
          chosen[best] = true;
          chosen_sum += score[best];
        }
        const std::vector<double> xs(values["x"].begin() + static_cast<std::ptrdiff_t>(row),
                                     values["x"].begin() + static_cast<std::ptrdiff_t>(row) + p_.D);
        std::vector<double> out = expert("shared_experts", 0, c_.experts.hidden * c_.experts.shared, xs);
        for (size_t e = 0; e < chosen.size(); ++e) {
          if (!chosen[e]) continue;
          ++loads[e];
          counts[e] += 1;
          const double weight = c_.experts.scale * score[e] / chosen_sum;
          const std::vector<double> of = expert("experts", static_cast<int64_t>(e), c_.experts.hidden, xs);
          for (size_t i = 0; i < out.size(); ++i) out[i] += weight * of[i];
        }
        for (size_t i = 0; i < out.size(); ++i) {
          y[row + i] = out[i];
          sum += dy[row + i] * out[i];
        }
      }
      const auto T = static_cast<double>(p_.T);
      for (size_t e = 0; e < counts.size(); ++e) {
        balance_loss += c_.experts.balance_loss / static_cast<double>(p_.S) * static_cast<double>(E) /
                        (static_cast<double>(k) * T) * counts[e] * shares[e] / T;
      }
    }
    return sum + balance_loss + z_loss;
  }

  std::map<std::string, std::vector<double>> values;
  std::vector<double> y;
  std::vector<int64_t> loads;
  double balance_loss = 0, z_loss = 0;

 private:
  std::vector<double> product(const std::string& name, int64_t matrix, int64_t rows, int64_t columns, const double* x) {
    const double* w = values.at(name).data() + matrix * rows * columns;
    std::vector<double> result(static_cast<size_t>(rows), 0);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < columns; ++i) result[static_cast<size_t>(r)] += w[r * columns + i] * x[i];
    }
    return result;
  }
  std::vector<double> expert(const std::string& name, int64_t e, int64_t F, const std::vector<double>& x) {
    std::vector<double> h = product(name + ".up.weight", e, F, p_.D, x.data());
    if (c_.mlp == MlpKind::swiglu) {
      const std::vector<double> gate = product(name + ".gate.weight", e, F, p_.D, x.data());
      for (size_t i = 0; i < h.size(); ++i) h[i] *= gate[i] / (1 + std::exp(-gate[i]));
    } else {
      for (double& v : h) v *= 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
    }
    return product(name + ".down.weight", e, p_.D, F, h.data());
  }

  DecoderConfig c_;
  Problem p_;
  std::vector<double> bias_;
};

TEST(MixtureOfExperts, OneRankComputesWhatPlainLoopsDo) {
  for (RouterScore score : {RouterScore::softmax, RouterScore::sigmoid}) {
    for (MlpKind mlp : {MlpKind::swiglu, MlpKind::gelu}) {
      const DecoderConfig c = config_of(score, mlp);
      const Problem p;
      DenseLoop loop(c, p);
      const Result one = run(c, p, {});
      loop.objective();
      for (int64_t i = 0; i < p.S * p.padded * p.D; ++i) {
        const bool padding = i / p.D % p.padded >= p.T;
        // Shared experts see padding, too; nobody reads it.
        if (!padding) EXPECT_NEAR(one.y[static_cast<size_t>(i)], loop.y[static_cast<size_t>(i)], 1e-12) << i;
      }
      EXPECT_EQ(one.loads, loop.loads);
      EXPECT_NEAR(one.balance_loss, loop.balance_loss, 1e-12);
      EXPECT_NEAR(one.z_loss, loop.z_loss, 1e-12);
      // Every seventh element of each gradient; a step moves no token to another expert.
      for (const auto& [name, gradient] : one.gradients) {
        std::vector<double>& values = loop.values.at(name.substr(9));
        const bool shared = name.find("shared") != std::string::npos;  // with padding's share, as drawn
        for (size_t i = 0; i < values.size() && !shared; i += 7) {
          const double at = values[i];
          values[i] = at + 1e-5;
          const double above = loop.objective();
          values[i] = at - 1e-5;
          const double below = loop.objective();
          values[i] = at;
          EXPECT_NEAR(gradient[i], (above - below) / 2e-5, 1e-7) << name << "[" << i << "]";
        }
      }
      std::vector<double>& x = loop.values.at("x");
      for (size_t i = 0; i < x.size(); i += 5) {
        if (static_cast<int64_t>(i) / p.D % p.padded >= p.T) continue;
        const double at = x[i];
        x[i] = at + 1e-5;
        const double above = loop.objective();
        x[i] = at - 1e-5;
        const double below = loop.objective();
        x[i] = at;
        EXPECT_NEAR(one.dx[i], (above - below) / 2e-5, 1e-7) << "dx[" << i << "]";
      }
    }
  }
}

TEST(MixtureOfExperts, EveryLayoutComputesWhatOneRankDoes) {
  for (RouterScore score : {RouterScore::softmax, RouterScore::sigmoid}) {
    const DecoderConfig c = config_of(score);
    const Problem p;
    const Result one = run(c, p, {});
    for (const MeshSizes& sizes : layouts()) {
      SCOPED_TRACE(sizes.to_string());
      expect_same(run(c, p, sizes), one);
    }
  }
}

TEST(MixtureOfExperts, PaddingGetsNothingFromRoutedExperts) {
  DecoderConfig c = config_of(RouterScore::softmax);
  c.experts.shared = 0;
  for (const MeshSizes& sizes : {MeshSizes(), MeshSizes{.tensor = 4, .expert = 2, .expert_tensor = 2}}) {
    const Problem p{.S = 1, .T = 2};  // of four ranks, three have nothing but padding
    const Result result = run(c, p, sizes);
    for (int64_t i = p.T * p.D; i < p.padded * p.D; ++i) {
      EXPECT_EQ(result.y[static_cast<size_t>(i)], 0);
      EXPECT_EQ(result.dx[static_cast<size_t>(i)], 0);
    }
    expect_same(result, run(c, p, {}));
    int64_t load = 0;
    for (int64_t l : result.loads) load += l;
    EXPECT_EQ(load, p.T * c.experts.per_token);
  }
}

TEST(MixtureOfExperts, ARankWhoseExpertsGetNoTokenTakesPart) {
  DecoderConfig c = config_of(RouterScore::softmax);
  c.experts.per_token = 1;
  Problem p;
  p.x = [](int64_t, int64_t, int64_t i) { return 0.1 * static_cast<double>(i + 1); };  // all alike: one expert
  const Result one = run(c, p, {});
  EXPECT_EQ(std::ranges::count(one.loads, 0), 7);
  for (const MeshSizes& sizes : layouts()) {
    SCOPED_TRACE(sizes.to_string());
    expect_same(run(c, p, sizes), one);
  }
}

TEST(MixtureOfExperts, ABlockThatRunsAgainFindsItsRoutingAndCountsOnce) {
  const DecoderConfig c = config_of(RouterScore::sigmoid);
  const Result one = run(c, {}, {});
  Problem again;
  again.recompute = true;
  expect_same(run(c, again, {}), one);
  for (const MeshSizes& sizes : {layouts()[0], layouts()[4], layouts()[6]}) {
    SCOPED_TRACE(sizes.to_string());
    expect_same(run(c, again, sizes), one);
  }
}

TEST(MixtureOfExperts, RecordedRoutingIsReplayedOnAnyLayout) {
  const DecoderConfig c = config_of(RouterScore::softmax);
  const Result recorded = run(c, {}, {});
  // Under another bias the router would choose others: the rows of experts are drawn anew.
  DecoderConfig other = c;
  other.initial_deviation = 1.3f;
  const Result chosen = run(other, {}, {});
  ASSERT_NE(chosen.loads, recorded.loads);
  Problem p;
  p.replayed = std::make_shared<Routing>(recorded.routing);
  const Result one = run(other, p, {});
  EXPECT_EQ(one.loads, recorded.loads);
  for (const MeshSizes& sizes : layouts()) {
    SCOPED_TRACE(sizes.to_string());
    expect_same(run(other, p, sizes), one);
  }
  // A layout records what one rank does.
  p.replayed = std::make_shared<Routing>(run(c, {}, layouts()[6]).routing);
  expect_same(run(other, p, {}), one, 0);
}

TEST(MixtureOfExperts, Bf16IsAsCloseToF64OnALayoutAsOnOneRank) {
  const DecoderConfig c = config_of(RouterScore::softmax);
  const Result exact = run(c, {}, {});
  Problem p;
  p.compute = DType::bf16;
  p.replayed = std::make_shared<Routing>(exact.routing);
  // Over all that the layer gives, as a share of its size.
  const auto distance = [&](const Result& found) {
    double difference = 0, size = 0;
    const auto add = [&](const std::vector<double>& of, const std::vector<double>& right) {
      for (size_t i = 0; i < right.size(); ++i) {
        difference += std::pow(of[i] - right[i], 2);
        size += right[i] * right[i];
      }
    };
    add(found.y, exact.y);
    add(found.dx, exact.dx);
    for (const auto& [name, gradient] : exact.gradients) add(found.gradients.at(name), gradient);
    return std::sqrt(difference / size);
  };
  const double one = distance(run(c, p, {}));
  EXPECT_GT(one, 1e-4);  // it is rounded
  EXPECT_LT(one, 1e-2);  // some ten roundings of 2^-9 on the way, most of them independent
  for (const MeshSizes& sizes : layouts()) {
    SCOPED_TRACE(sizes.to_string());
    const Result found = run(c, p, sizes);
    EXPECT_LT(distance(found), 1.2 * one);
    EXPECT_EQ(found.loads, exact.loads);
  }
}

// What the simulator proves is what is issued.
TEST(MixtureOfExperts, IssuesTheCollectivesThatItsUnitLists) {
  for (bool balance_loss : {false, true}) {
    DecoderConfig c = config_of(RouterScore::softmax);
    c.experts.shared = 0;
    if (!balance_loss) c.experts.balance_loss = 0;
    Unit unit;
    unit.add_expert_exchange(balance_loss);
    for (const MeshSizes& sizes : layouts()) {
      SCOPED_TRACE(sizes.to_string());
      const auto listed = [&](const std::vector<InsideCollective>& collectives) {
        std::vector<std::string> names;
        for (const InsideCollective& i : collectives) {
          if (size_of(i.group, sizes) > 1)
            names.push_back(fmt::format("{} in {}", name_of(i.operation), name_of(i.group)));
        }
        return names;
      };
      Problem p;
      const Result result = run(c, p, sizes);
      EXPECT_EQ(result.forward, listed(unit.inside_forward));
      EXPECT_EQ(result.backward, listed(unit.inside_backward));
      // Run again, forward stands before backward.
      p.recompute = true;
      std::vector<std::string> both = listed(unit.inside_forward);
      for (const std::string& name : listed(unit.inside_backward)) both.push_back(name);
      EXPECT_EQ(run(c, p, sizes).backward, both);
    }
  }
}

TEST(Router, TheBiasMovesTowardsExpertsBelowTheMean) {
  DecoderConfig c = config_of(RouterScore::sigmoid);
  const auto device = kernels::make_cpu_device(1);
  for (DType compute : {DType::f64, DType::f32, DType::bf16}) {
    ParameterSet parameters(*device, Numerics::of(compute), true);
    MixtureOfExperts layer(parameters, "blocks.0", c, 0);
    parameters.allocate();
    Parameter& bias = *parameters.find("blocks.0.router.bias");
    bias.initialize(1);
    EXPECT_FALSE(bias.trainable());
    EXPECT_EQ(bias.value().dtype(), kernels::accumulator_of(compute));
    layer.router().balance({2, 2, 3, 1, 2, 0, 4, 2});  // the mean is 2
    EXPECT_EQ(bias.value().to_host<double>(), (std::vector<double>{0, 0, -0.125, 0.125, 0, 0.125, -0.125, 0}));
    layer.router().balance({0, 0, 1, 0, 0, 0, 0, 0});  // and 1/8
    EXPECT_EQ(bias.value().to_host<double>(), (std::vector<double>{0.125, 0.125, -0.25, 0.25, 0.125, 0.25, 0, 0.125}));
    EXPECT_EQ(bias.bucket().masters().to_host<double>(), bias.value().to_host<double>());
    for (const ParameterBucket* b : parameters.buckets()) EXPECT_NE(b, &bias.bucket());
  }
}

TEST(LoadEntropy, IsOneWhereLoadsAreEvenAndZeroWhereOneHasAll) {
  EXPECT_NEAR(load_entropy({5, 5, 5, 5}), 1, 1e-15);
  EXPECT_EQ(load_entropy({0, 7, 0}), 0);
  EXPECT_NEAR(load_entropy({4, 4, 0, 0}), 0.5, 1e-15);
  EXPECT_EQ(load_entropy({0, 0}), 0);
}

}  // namespace
}  // namespace troupe::parallel
