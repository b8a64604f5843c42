// Bandwidth of the memory-bound operations, in bytes that an ideal kernel moves: each operand read once
// or written once. Compare with the copies of the same run. Arguments: threads, then 0 for f32 or 1 for bf16.
#include <benchmark/benchmark.h>

#include <cstring>
#include <functional>
#include <random>

#include "kernels/ops/kernels.h"

namespace troupe::kernels {
namespace {

constexpr int64_t kRows = 16384;  // 48 MiB an array of f32: beyond the caches
constexpr int64_t kWidth = 768;

Tensor random(Device& device, DType type, Shape shape) {
  std::minstd_rand engine(1);
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  for (float& value : values) value = static_cast<float>(engine() % 2001) * 1e-3f - 1;
  return Tensor::from<float>(device, values, shape).to(type);
}

struct Setup {
  explicit Setup(benchmark::State& state)
      : device(make_cpu_device(static_cast<int>(state.range(0)))), type(state.range(1) ? DType::bf16 : DType::f32) {}
  Tensor wide(DType t) { return random(*device, t, {kRows, kWidth}); }
  Tensor wide() { return wide(type); }
  const Kernels& kernels() { return device->kernels(); }
  std::unique_ptr<Device> device;
  DType type;
};

void measure(benchmark::State& state, int64_t bytes, const std::function<void()>& body) {
  body();
  for (auto _ : state) body();
  state.SetBytesProcessed(bytes * static_cast<int64_t>(state.iterations()));
}

void copy(benchmark::State& state) {
  Setup s(state);
  const Tensor from = s.wide();
  Tensor to = s.wide();
  measure(state, 2 * from.bytes(), [&] { to.copy_from(from); });
}

void convert(benchmark::State& state) {
  Setup s(state);
  const Tensor from = s.wide();
  Tensor to = s.wide(s.type == DType::f32 ? DType::bf16 : DType::f32);
  measure(state, from.bytes() + to.bytes(), [&] { s.kernels().tensor.convert(*s.device, from, to); });
}

void add_into(benchmark::State& state) {
  Setup s(state);
  const Tensor from = s.wide();
  Tensor to = s.wide(DType::f32);
  measure(state, from.bytes() + 2 * to.bytes(), [&] { s.kernels().tensor.add_into(*s.device, from, to); });
}

void add(benchmark::State& state) {
  Setup s(state);
  const Tensor x = s.wide(DType::f32), y = s.wide();
  Tensor z = s.wide(DType::f32);
  measure(state, x.bytes() + y.bytes() + z.bytes(), [&] { s.kernels().add.forward(*s.device, x, y, z); });
}

void rms_norm(benchmark::State& state) {
  Setup s(state);
  const Tensor x = s.wide(DType::f32), weight = random(*s.device, s.type, {kWidth});
  Tensor y = s.wide(), inverse = random(*s.device, DType::f32, {kRows});
  measure(state, x.bytes() + y.bytes(), [&] { s.kernels().rms_norm.forward(*s.device, x, weight, 1e-5, y, inverse); });
}

void rms_norm_backward(benchmark::State& state) {
  Setup s(state);
  const Tensor x = s.wide(DType::f32), dy = s.wide(), weight = random(*s.device, s.type, {kWidth});
  const Tensor inverse = random(*s.device, DType::f32, {kRows}), dx = s.wide(DType::f32);
  const Tensor dweight = random(*s.device, DType::f32, {kWidth});
  measure(state, 3 * x.bytes() + dy.bytes(),
          [&] { s.kernels().rms_norm.backward(*s.device, x, weight, inverse, dy, {dx, true}, {dweight, true}); });
}

void layer_norm(benchmark::State& state) {
  Setup s(state);
  const Tensor x = s.wide(DType::f32), weight = random(*s.device, s.type, {kWidth});
  Tensor y = s.wide(), mean = random(*s.device, DType::f32, {kRows}), inverse = mean.to(DType::f32);
  measure(state, x.bytes() + y.bytes(),
          [&] { s.kernels().layer_norm.forward(*s.device, x, weight, weight, 1e-5, y, mean, inverse); });
}

void layer_norm_backward(benchmark::State& state) {
  Setup s(state);
  const Tensor x = s.wide(DType::f32), dy = s.wide(), weight = random(*s.device, s.type, {kWidth});
  const Tensor mean = random(*s.device, DType::f32, {kRows}), dx = s.wide(DType::f32);
  const Tensor dweight = random(*s.device, DType::f32, {kWidth}), dbias = random(*s.device, DType::f32, {kWidth});
  measure(state, 3 * x.bytes() + dy.bytes(), [&] {
    s.kernels().layer_norm.backward(*s.device, x, weight, mean, mean, dy, {dx, true}, {dweight, true}, {dbias, true});
  });
}

void rope(benchmark::State& state) {
  Setup s(state);
  const Tensor x = s.wide();
  Tensor y = s.wide();
  std::vector<int32_t> at(kRows);
  for (size_t i = 0; i < at.size(); ++i) at[i] = static_cast<int32_t>(i % 1024);
  const Tensor positions = Tensor::from<int32_t>(*s.device, at, {kRows / 1024, 1024});
  const RopeTable table(*s.device, {.head_width = 64}, 1024, DType::f32);
  measure(state, x.bytes() + y.bytes(), [&] { s.kernels().rope.rotate(*s.device, x, positions, table, false, y); });
}

template <Activation kind>
void activation(benchmark::State& state) {
  Setup s(state);
  const Tensor x = s.wide();
  Tensor y = s.wide();
  measure(state, x.bytes() + y.bytes(), [&] { s.kernels().activation.forward(*s.device, kind, x, y); });
}

template <Activation kind>
void activation_backward(benchmark::State& state) {
  Setup s(state);
  Tensor x = s.wide(), dx = s.wide();
  const Tensor dy = s.wide();
  measure(state, 3 * x.bytes(), [&] { s.kernels().activation.backward(*s.device, kind, x, dy, dx); });
}

void swiglu(benchmark::State& state) {
  Setup s(state);
  const Tensor gate = s.wide(), up = s.wide();
  Tensor y = s.wide();
  measure(state, 3 * y.bytes(), [&] { s.kernels().gated.forward(*s.device, Activation::silu, gate, up, y); });
}

void swiglu_backward(benchmark::State& state) {
  Setup s(state);
  Tensor gate = s.wide(), up = s.wide();
  const Tensor dy = s.wide();
  Tensor dgate = s.wide(), dup = s.wide();
  measure(state, 5 * dy.bytes(),
          [&] { s.kernels().gated.backward(*s.device, Activation::silu, gate, up, dy, dgate, dup); });
}

Tensor tokens(Device& device, int64_t vocabulary) {
  std::minstd_rand engine(1);
  std::vector<int32_t> ids(kRows);
  for (int32_t& id : ids) id = static_cast<int32_t>(engine() % static_cast<uint64_t>(vocabulary));
  return Tensor::from<int32_t>(device, ids, {kRows});
}

void embedding(benchmark::State& state) {
  Setup s(state);
  const Tensor ids = tokens(*s.device, 50257), table = random(*s.device, s.type, {50257, kWidth});
  Tensor y = s.wide(DType::f32);
  measure(state, y.bytes() + kRows * kWidth * size_of(s.type),
          [&] { s.kernels().embedding.forward(*s.device, ids, table, y); });
}

void embedding_backward(benchmark::State& state) {
  Setup s(state);
  const Tensor ids = tokens(*s.device, 50257), dy = s.wide(DType::f32);
  const Tensor dtable = Tensor::zeros(*s.device, DType::f32, {50257, kWidth});
  measure(state, 3 * dy.bytes(), [&] { s.kernels().embedding.backward(*s.device, ids, dy, {dtable, true}); });
}

constexpr int64_t kLogitRows = 128, kVocabulary = 50257;

void cross_entropy(benchmark::State& state) {
  Setup s(state);
  const Tensor logits = random(*s.device, s.type, {kLogitRows, kVocabulary});
  const Tensor labels = tokens(*s.device, kVocabulary).slice(0, kLogitRows);
  Tensor losses = random(*s.device, DType::f32, {kLogitRows}), lse = losses.to(DType::f32);
  measure(state, logits.bytes(), [&] {
    s.kernels().softmax_cross_entropy.forward(*s.device, logits, labels, {.vocabulary = kVocabulary}, losses, lse);
  });
}

void cross_entropy_backward(benchmark::State& state) {
  Setup s(state);
  Tensor logits = random(*s.device, s.type, {kLogitRows, kVocabulary});
  const Tensor labels = tokens(*s.device, kVocabulary).slice(0, kLogitRows);
  const Tensor lse = random(*s.device, DType::f32, {kLogitRows}), d = lse.to(DType::f32);
  measure(state, 2 * logits.bytes(), [&] {
    s.kernels().softmax_cross_entropy.backward(*s.device, logits, labels, {.vocabulary = kVocabulary}, lse, d);
  });
}

void adamw(benchmark::State& state) {
  Setup s(state);
  const Tensor gradient = s.wide(DType::f32);
  Tensor p = s.wide(DType::f32), m = s.wide(DType::f32), v = gradient.to(DType::f32);
  v.fill_zero();
  Tensor compute = s.type == DType::bf16 ? s.wide() : Tensor();
  const AdamWStep step{.learning_rate = 1e-3, .step = 10};
  measure(state, 7 * p.bytes() + (compute.defined() ? compute.bytes() : 0),
          [&] { s.kernels().adamw.step(*s.device, step, gradient, p, m, v, compute); });
}

void sum_of_squares(benchmark::State& state) {
  Setup s(state);
  const Tensor x = s.wide();
  measure(state, x.bytes(), [&] { benchmark::DoNotOptimize(s.kernels().global_norm.sum_of_squares(*s.device, x)); });
}

void dropout(benchmark::State& state) {
  Setup s(state);
  const Tensor x = s.wide().reshape({16, 1024, kWidth});
  Tensor y = s.wide();
  std::vector<int32_t> at(kRows);
  for (size_t i = 0; i < at.size(); ++i) at[i] = static_cast<int32_t>(i % 1024);
  const Tensor positions = Tensor::from<int32_t>(*s.device, at, {16, 1024});
  const Tensor sequences = Tensor::from<int64_t>(*s.device, std::vector<int64_t>(16, 1), {16});
  measure(state, x.bytes() + y.bytes(),
          [&] { s.kernels().dropout.apply(*s.device, x, 0.1, {}, sequences, positions, y); });
}

#define TROUPE_OPERATION(...) \
  BENCHMARK(__VA_ARGS__)->ArgNames({"threads", "bf16"})->ArgsProduct({{1, 2}, {0, 1}})->UseRealTime()
TROUPE_OPERATION(copy);
TROUPE_OPERATION(convert);
TROUPE_OPERATION(add_into);
TROUPE_OPERATION(add);
TROUPE_OPERATION(rms_norm);
TROUPE_OPERATION(rms_norm_backward);
TROUPE_OPERATION(layer_norm);
TROUPE_OPERATION(layer_norm_backward);
TROUPE_OPERATION(rope);
TROUPE_OPERATION(activation<Activation::gelu>);
TROUPE_OPERATION(activation<Activation::gelu_tanh>);
TROUPE_OPERATION(activation_backward<Activation::gelu>);
TROUPE_OPERATION(activation_backward<Activation::gelu_tanh>);
TROUPE_OPERATION(swiglu);
TROUPE_OPERATION(swiglu_backward);
TROUPE_OPERATION(embedding);
TROUPE_OPERATION(embedding_backward);
TROUPE_OPERATION(cross_entropy);
TROUPE_OPERATION(cross_entropy_backward);
TROUPE_OPERATION(adamw);
TROUPE_OPERATION(sum_of_squares);
TROUPE_OPERATION(dropout);

}  // namespace
}  // namespace troupe::kernels
