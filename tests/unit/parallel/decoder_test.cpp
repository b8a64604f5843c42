#include "parallel/model/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

#include "runtime/base/random.h"

namespace troupe::parallel {
namespace {

using Gradients = std::map<std::string, std::vector<double>>;

DecoderConfig llama() {
  DecoderConfig c;
  c.vocabulary = 29;
  c.context = 32;
  c.layers = 2;
  c.width = 24;
  c.heads = 4;
  c.kv_heads = 2;
  c.hidden = 40;
  return c;
}

DecoderConfig gpt2() {
  DecoderConfig c = llama();
  c.kv_heads = 0;
  c.norm = NormKind::layer;
  c.position = PositionKind::learned;
  c.mlp = MlpKind::gelu;
  c.biases = c.tied = true;
  return c;
}

struct Case {
  std::string name;
  DecoderConfig config;
  bool packed = false;  // documents side by side: masked, positions restarted
  float label_smoothing = 0;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<Case> cases() {
  std::vector<Case> list{{"Llama", llama()}, {"Gpt2", gpt2()}};
  const auto add = [&](std::string name, DecoderConfig config, const auto& change) -> Case& {
    change(config);
    return list.emplace_back(Case{std::move(name), std::move(config)});
  };
  add("QkNorm", llama(), [](auto& c) { c.qk_norm = true; });
  add("Window", llama(), [](auto& c) { c.window = 3; });
  add("Softcaps", llama(), [](auto& c) { c.attention_softcap = 0.5f, c.logit_softcap = 2; });
  add("Dropout", gpt2(), [](auto& c) { c.dropout = 0.3f; }).label_smoothing = 0.1f;
  add("PackedLlama", llama(), [](auto&) {}).packed = true;
  add("PackedGpt2", gpt2(), [](auto&) {}).packed = true;
  add("TiedGeglu", llama(), [](auto& c) { c.tied = true, c.mlp = MlpKind::geglu, c.kv_heads = 1; });
  add("AttentionBiasesWideHeads", llama(), [](auto& c) { c.attention_biases = true, c.head_width = 10; });
  add("Everything", llama(), [](auto& c) {
    c.qk_norm = c.tied = c.biases = true;
    c.norm = NormKind::layer;
    c.window = 6;
    c.attention_softcap = 2;
    c.logit_softcap = 3;
    c.dropout = 0.2f;
  }).packed = true;
  for (Case& c : list) TROUPE_CHECK(c.config.complete().ok());
  return list;
}

// B sequences of T tokens, some labels ignored; packed: documents of 1, 5 and T - 6 tokens.
struct HostBatch {
  int64_t B = 4, T = 13;
  std::vector<int32_t> tokens, labels, positions, first_visible;
  double targets = 0;

  HostBatch(int64_t vocabulary, bool packed, uint64_t key = 11) {
    RandomStream random{.key = key};
    for (int64_t i = 0; i < B * T; ++i) {
      const auto t = static_cast<int32_t>(i % T);
      const int32_t first = !packed ? 0 : t < 1 ? 0 : t < 6 ? 1 : 6;
      tokens.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary))));
      labels.push_back(random.below(7) == 0 ? -100
                                            : static_cast<int32_t>(random.below(static_cast<uint64_t>(vocabulary))));
      positions.push_back(t - first);
      first_visible.push_back(first);
      targets += labels.back() >= 0;
    }
  }
};

class Model {
 public:
  Model(const Case& given, DType compute, bool training = true)
      : given_(given), parameters_(*device_, Numerics::of(compute), training), decoder_(given.config, parameters_) {
    // Not initial values: biases of zero and norm weights of one would hide errors.
    for (Parameter* p : parameters_.all()) {
      std::vector<double> values(static_cast<size_t>(p->global_elements()));
      const double mean = p->name().ends_with("norm.weight") ? 1 : 0;
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = mean + 0.2 * static_cast<double>(normal(hash_name(p->name()), i));
      }
      p->assign(Tensor::from<double>(*device_, values, p->spec().shape).to(p->master().dtype()));
    }
  }

  Batch batch(const HostBatch& host, int64_t begin, int64_t end) {
    const auto rows = [&](const std::vector<int32_t>& values) {
      return Tensor::from<int32_t>(
          *device_,
          std::span(values).subspan(static_cast<size_t>(begin * host.T), static_cast<size_t>((end - begin) * host.T)),
          {end - begin, host.T});
    };
    Batch b;
    b.tokens = rows(host.tokens);
    b.labels = rows(host.labels);
    b.positions = rows(host.positions);
    if (given_.packed) b.first_visible = rows(host.first_visible);
    std::vector<int64_t> ids(static_cast<size_t>(end - begin));
    std::iota(ids.begin(), ids.end(), 100 + begin);
    b.sequence_ids = Tensor::from<int64_t>(*device_, ids, {end - begin});
    b.seed = 5;
    b.step = 3;
    b.training = true;
    b.label_smoothing = given_.label_smoothing;
    return b;
  }

  // Mean loss over the batch's targets.
  double loss(const HostBatch& host) {
    Tape tape(*device_, Tape::Mode::no_gradient);
    const auto values = decoder_.losses(tape, batch(host, 0, host.B)).tensor().to_host<double>();
    return std::accumulate(values.begin(), values.end(), 0.0) / host.targets;
  }

  // The same and its gradients, over microbatches of the given numbers of sequences.
  std::pair<double, Gradients> gradients(const HostBatch& host, const std::vector<int64_t>& cuts,
                                         Recompute recompute = Recompute::none) {
    for (Parameter* p : parameters_.all()) p->forget_gradient();
    double sum = 0;
    int64_t begin = 0;
    for (int64_t size : cuts) {
      Tape tape(*device_);
      const Value losses = decoder_.losses(tape, batch(host, begin, begin + size), recompute);
      for (double loss : losses.tensor().to_host<double>()) sum += loss;
      const std::vector<double> each(static_cast<size_t>(losses.tensor().elements()), 1 / host.targets);
      const Tensor weights = Tensor::from<double>(*device_, each, losses.shape()).to(losses.dtype());
      tape.backward(std::span(&losses, 1), std::span(&weights, 1));
      begin += size;
    }
    TROUPE_CHECK(begin == host.B);
    Gradients result;
    for (Parameter* p : parameters_.all()) {
      EXPECT_TRUE(p->has_gradient()) << p->name();
      result[std::string(p->name())] = p->gradient_accumulator().to_host<double>();
    }
    return {sum / host.targets, result};
  }

  // Logits [count, V] of the tokens `begin`… of one sequence, behind what the cache holds.
  std::vector<double> decode(const std::vector<int32_t>& tokens, KvCache* cache) {
    const auto T = static_cast<int64_t>(tokens.size());
    Batch b;
    b.tokens = Tensor::from<int32_t>(*device_, tokens, {1, T});
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), cache ? static_cast<int32_t>(cache->length) : 0);
    b.positions = Tensor::from<int32_t>(*device_, positions, {1, T});
    b.cache = cache;
    Tape tape(*device_, Tape::Mode::no_gradient);
    const Value hidden = decoder_.forward(tape, b);
    if (cache) cache->length += T;
    return decoder_.logits(tape, hidden).tensor().to_host<double>();
  }

  std::vector<double> token_losses(const Batch& b) {
    Tape tape(*device_, Tape::Mode::no_gradient);
    return decoder_.losses(tape, b).tensor().to_host<double>();
  }

  Decoder& decoder() { return decoder_; }
  ParameterSet& parameters() { return parameters_; }
  kernels::Device& device() { return *device_; }

 private:
  Case given_;
  std::unique_ptr<kernels::Device> device_ = kernels::make_cpu_device(2);
  ParameterSet parameters_;
  Decoder decoder_;
};

// The same model in plain loops over one token after another, as the papers write it: what the options mean.
class PlainDecoder {
 public:
  using Row = std::vector<double>;

  PlainDecoder(const Case& given, ParameterSet& parameters) : given_(given), c_(given.config) {
    for (Parameter* p : parameters.all()) weights_[std::string(p->name())] = p->value().to_host<double>();
  }

  // Losses of sequence b, 0 where there is no target.
  Row losses(const HostBatch& host, int64_t b) const {
    std::vector<Row> x;
    std::vector<size_t> positions, first;
    for (int64_t t = 0; t < host.T; ++t) {
      const auto i = static_cast<size_t>(b * host.T + t);
      positions.push_back(static_cast<size_t>(host.positions[i]));
      first.push_back(given_.packed ? static_cast<size_t>(host.first_visible[i]) : 0);
      x.push_back(row("embedding.weight", static_cast<size_t>(host.tokens[i])));
      if (c_.position == PositionKind::learned) add(x.back(), row("position_embedding.weight", positions.back()));
    }
    for (int64_t layer = 0; layer < c_.layers; ++layer) {
      const std::string block = fmt::format("blocks.{}.", layer);
      std::vector<Row> h;
      for (const Row& token : x) h.push_back(norm(block + "attention_norm", token, c_.norm));
      const std::vector<Row> attended = attention(block + "attention.", h, positions, first);
      for (size_t t = 0; t < x.size(); ++t) {
        add(x[t], attended[t]);
        add(x[t], feed_forward(block + "feed_forward.", norm(block + "feed_forward_norm", x[t], c_.norm)));
      }
    }
    Row result;
    for (size_t t = 0; t < x.size(); ++t) {
      Row z = linear(c_.tied ? "embedding" : "head", norm("final_norm", x[t], c_.norm));
      double sum = 0;
      for (double& logit : z) sum += std::exp(logit = capped(logit, c_.logit_softcap));
      const int32_t label = host.labels[static_cast<size_t>(b * host.T) + t];
      result.push_back(label < 0 ? 0 : std::log(sum) - z[static_cast<size_t>(label)]);
    }
    return result;
  }

 private:
  static void add(Row& to, const Row& from) {
    for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  }
  static double capped(double x, float cap) {
    return cap > 0 ? static_cast<double>(cap) * std::tanh(x / static_cast<double>(cap)) : x;
  }
  Row row(const std::string& name, size_t index) const {
    const Row& table = weights_.at(name);
    const auto D = static_cast<size_t>(c_.width);
    return {table.begin() + static_cast<long>(index * D), table.begin() + static_cast<long>((index + 1) * D)};
  }
  Row linear(const std::string& name, const Row& x) const {
    const Row& w = weights_.at(name + ".weight");
    Row y(w.size() / x.size());
    const auto bias = weights_.find(name + ".bias");
    for (size_t o = 0; o < y.size(); ++o) {
      for (size_t i = 0; i < x.size(); ++i) y[o] += w[o * x.size() + i] * x[i];
      if (bias != weights_.end()) y[o] += bias->second[o];
    }
    return y;
  }
  Row norm(const std::string& name, Row x, NormKind kind) const {
    double mean = 0, square = 0;
    for (double v : x) mean += kind == NormKind::layer ? v / static_cast<double>(x.size()) : 0;
    for (double v : x) square += (v - mean) * (v - mean) / static_cast<double>(x.size());
    const Row& weight = weights_.at(name + ".weight");
    const auto bias = weights_.find(name + ".bias");
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = (x[i] - mean) / std::sqrt(square + static_cast<double>(c_.norm_epsilon)) * weight[i];
      if (bias != weights_.end()) x[i] += bias->second[i];
    }
    return x;
  }
  // Head number `head` of x, normalised and turned where the model does that.
  Row head_of(const Row& x, size_t head, const std::string& norm_name, size_t position) const {
    const auto d = static_cast<size_t>(c_.head_width);
    Row h(x.begin() + static_cast<long>(head * d), x.begin() + static_cast<long>((head + 1) * d));
    if (norm_name.empty()) return h;
    if (c_.qk_norm) h = norm(norm_name, h, NormKind::rms);
    if (c_.position == PositionKind::learned) return h;
    for (size_t i = 0; i < d / 2; ++i) {
      const double angle =
          static_cast<double>(position) * std::pow(c_.rope.theta, -2 * static_cast<double>(i) / static_cast<double>(d));
      const double a = h[i], b = h[i + d / 2];
      h[i] = a * std::cos(angle) - b * std::sin(angle);
      h[i + d / 2] = b * std::cos(angle) + a * std::sin(angle);
    }
    return h;
  }
  std::vector<Row> attention(const std::string& name, const std::vector<Row>& x, const std::vector<size_t>& positions,
                             const std::vector<size_t>& first) const {
    std::vector<Row> q, k, v, result;
    for (const Row& token : x) {
      q.push_back(linear(name + "query", token));
      k.push_back(linear(name + "key", token));
      v.push_back(linear(name + "value", token));
    }
    const auto window = static_cast<size_t>(c_.window);
    for (size_t t = 0; t < x.size(); ++t) {
      Row mixed;
      for (size_t head = 0; head < static_cast<size_t>(c_.heads); ++head) {
        const size_t shared = head / static_cast<size_t>(c_.heads / c_.kv_heads);
        const Row query = head_of(q[t], head, name + "query_norm", positions[t]);
        Row sum(query.size());
        double total = 0;
        for (size_t j = first[t]; j <= t; ++j) {
          if (window > 0 && j + window <= t) continue;
          const Row key = head_of(k[j], shared, name + "key_norm", positions[j]);
          const Row value = head_of(v[j], shared, "", 0);
          const double dot = std::inner_product(query.begin(), query.end(), key.begin(), 0.0);
          const double share =
              std::exp(capped(dot / std::sqrt(static_cast<double>(c_.head_width)), c_.attention_softcap));
          total += share;
          for (size_t i = 0; i < sum.size(); ++i) sum[i] += share * value[i];
        }
        for (double s : sum) mixed.push_back(s / total);
      }
      result.push_back(linear(name + "output", mixed));
    }
    return result;
  }
  Row feed_forward(const std::string& name, const Row& x) const {
    const auto gelu = [](double z) {
      return 0.5 * z * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (z + 0.044715 * z * z * z)));
    };
    Row up = linear(name + "up", x);
    if (c_.mlp == MlpKind::gelu) {
      for (double& u : up) u = gelu(u);
    } else {
      const Row gate = linear(name + "gate", x);
      for (size_t i = 0; i < up.size(); ++i) {
        up[i] *= c_.mlp == MlpKind::geglu ? gelu(gate[i]) : gate[i] / (1 + std::exp(-gate[i]));
      }
    }
    return linear(name + "down", up);
  }

  const Case& given_;
  const DecoderConfig& c_;
  std::map<std::string, Row> weights_;
};

class DecoderTest : public testing::TestWithParam<Case> {};

// f64 on both sides: sums of at most 40 terms of size 1, over two layers.
TEST_P(DecoderTest, LossesAreThoseOfThePlainDefinition) {
  const Case given = GetParam();
  Model model(given, DType::f64);
  const HostBatch host(given.config.vocabulary, given.packed);
  Batch batch = model.batch(host, 0, host.B);
  batch.training = false;
  const std::vector<double> losses = model.token_losses(batch);
  const PlainDecoder plain(given, model.parameters());
  for (int64_t b = 0; b < host.B; ++b) {
    const std::vector<double> expected = plain.losses(host, b);
    for (size_t t = 0; t < expected.size(); ++t) {
      EXPECT_NEAR(losses[static_cast<size_t>(b * host.T) + t], expected[t], 1e-12) << "sequence " << b << ", " << t;
    }
  }
}

// The difference of fourth order errs by h⁴·f⁽⁵⁾/30 and by 1e-16·f/h: with h = 1e-4, f about 4 and fifth
// derivatives up to 1e7 (norms divide by 0.2, the size of the values) that is 4e-11.
TEST_P(DecoderTest, GradientsMatchFiniteDifferencesOfTheLoss) {
  Model model(GetParam(), DType::f64);
  const HostBatch host(GetParam().config.vocabulary, GetParam().packed);
  const auto [loss, gradients] = model.gradients(host, {host.B});
  EXPECT_DOUBLE_EQ(model.loss(host), loss);
  for (Parameter* p : model.parameters().all()) {
    const std::vector<double>& gradient = gradients.at(std::string(p->name()));
    std::vector<size_t> chosen;  // the steepest, and two that chance picks
    chosen.push_back(static_cast<size_t>(std::ranges::max_element(gradient, {}, [](double g) { return std::abs(g); }) -
                                         gradient.begin()));
    for (uint64_t i = 0; i < 2; ++i) chosen.push_back(random_below(hash_name(p->name()), i, gradient.size()));
    const std::span<double> values = p->master().span<double>();
    for (size_t i : chosen) {
      constexpr double kStep = 1e-4;
      const double at = values[i];
      const auto loss_at = [&](double by) {
        values[i] = at + by;
        return model.loss(host);
      };
      const double near = loss_at(kStep) - loss_at(-kStep), far = loss_at(2 * kStep) - loss_at(-2 * kStep);
      values[i] = at;
      EXPECT_NEAR(gradient[i], (8 * near - far) / (12 * kStep), 1e-9) << p->name() << ", element " << i;
    }
  }
}

// f64 has 16 digits and the longest sum here some 2,000 terms below 1.
TEST_P(DecoderTest, MicrobatchesOfAnySizeAddUpToTheSameStep) {
  Model model(GetParam(), DType::f64);
  const HostBatch host(GetParam().config.vocabulary, GetParam().packed);
  const auto [loss, gradients] = model.gradients(host, {4});
  for (const auto& cuts : std::vector<std::vector<int64_t>>{{1, 1, 1, 1}, {2, 2}, {3, 1}, {1, 3}}) {
    const auto [cut_loss, cut_gradients] = model.gradients(host, cuts);
    EXPECT_NEAR(cut_loss, loss, 1e-12);
    for (const auto& [name, values] : gradients) {
      const auto& cut = cut_gradients.at(name);
      for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(cut[i], values[i], 1e-12) << name << ", element " << i;
    }
  }
}

TEST_P(DecoderTest, RecomputingGivesTheSameBits) {
  for (DType compute : {DType::f64, DType::f32, DType::bf16}) {
    Model model(GetParam(), compute);
    const HostBatch host(GetParam().config.vocabulary, GetParam().packed);
    const auto kept = model.gradients(host, {3, 1});
    EXPECT_EQ(model.gradients(host, {3, 1}, Recompute::attention), kept) << kernels::name_of(compute);
    EXPECT_EQ(model.gradients(host, {3, 1}, Recompute::block), kept) << kernels::name_of(compute);
  }
}

TEST_P(DecoderTest, DecodingOverACacheGivesTheBitsOfTheFullForwardPass) {
  for (DType compute : {DType::f32, DType::bf16}) {
    for (bool packed : {false, true}) {
      Model model(GetParam(), compute, false);
      if (packed) model.decoder().pack();
      std::vector<int32_t> tokens;
      for (int32_t i = 0; i < 30; ++i) tokens.push_back((i * i + 3) % 29);
      const std::vector<double> full = model.decode(tokens, nullptr);
      for (size_t prefill : {1u, 7u, 29u}) {
        KvCache cache = model.decoder().make_cache(1, 31);
        std::vector<double> parts = model.decode({tokens.begin(), tokens.begin() + static_cast<long>(prefill)}, &cache);
        for (size_t t = prefill; t < tokens.size(); ++t) {
          const std::vector<double> row = model.decode({tokens[t]}, &cache);
          parts.insert(parts.end(), row.begin(), row.end());
        }
        EXPECT_EQ(parts, full) << kernels::name_of(compute) << (packed ? ", packed" : "") << ", prefill " << prefill;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderTest, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

// Losses of f64 that differ in no more than the order of sums.
TEST(Decoder, APackedDocumentComputesWhatItComputesAlone) {
  for (const Case& given : cases()) {
    if (!given.packed || given.config.dropout > 0) continue;
    Model model(given, DType::f64);
    const HostBatch host(given.config.vocabulary, true);
    const std::vector<double> together = model.token_losses(model.batch(host, 0, host.B));
    const std::array<int64_t, 4> borders{0, 1, 6, host.T};
    for (int64_t b = 0; b < host.B; ++b) {
      for (size_t d = 0; d + 1 < borders.size(); ++d) {
        const int64_t begin = borders[d], length = borders[d + 1] - begin;
        const auto rows = [&](const std::vector<int32_t>& values) {
          return Tensor::from<int32_t>(
              model.device(),
              std::span(values).subspan(static_cast<size_t>(b * host.T + begin), static_cast<size_t>(length)),
              {1, length});
        };
        Batch alone;
        alone.tokens = rows(host.tokens);
        alone.labels = rows(host.labels);
        alone.positions = rows(host.positions);
        const std::vector<double> losses = model.token_losses(alone);
        for (int64_t t = 0; t < length; ++t) {
          EXPECT_NEAR(losses[static_cast<size_t>(t)], together[static_cast<size_t>(b * host.T + begin + t)], 1e-12)
              << given.name << ", document " << d << ", token " << t;
        }
      }
    }
  }
}

TEST(Decoder, DropoutAndSmoothingAreForTrainingAlone) {
  Case given = cases()[5];
  ASSERT_EQ(given.name, "Dropout");
  Model model(given, DType::f32);
  const HostBatch host(given.config.vocabulary, false);
  Batch batch = model.batch(host, 0, host.B);
  const std::vector<double> training = model.token_losses(batch);
  EXPECT_EQ(model.token_losses(batch), training);
  batch.step = 4;
  EXPECT_NE(model.token_losses(batch), training);
  batch.training = false;
  const std::vector<double> evaluation = model.token_losses(batch);
  given.config.dropout = given.label_smoothing = 0;
  Model plain(given, DType::f32);
  EXPECT_EQ(plain.token_losses(plain.batch(host, 0, host.B)), evaluation);
}

TEST(Decoder, AWindowAsLongAsTheSequenceHidesNothing) {
  Case given = cases()[0];
  const HostBatch host(given.config.vocabulary, false);
  Model full(given, DType::f32);
  const std::vector<double> losses = full.token_losses(full.batch(host, 0, host.B));
  given.config.window = host.T;
  Model windowed(given, DType::f32);
  EXPECT_EQ(windowed.token_losses(windowed.batch(host, 0, host.B)), losses);
}

}  // namespace
}  // namespace troupe::parallel
