// troupe bench train: the speed of training steps on random tokens.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "actors/train/trainer.h"
#include "kernels/cpu/peak.h"
#include "launcher/commands/bench.h"
#include "launcher/commands/common.h"
#include "parallel/plan/memory.h"
#include "runtime/base/clock.h"
#include "runtime/base/human_format.h"
#include "runtime/base/json.h"
#include "runtime/base/random.h"

namespace troupe::launcher {
namespace {

struct TrainBenchRequest {
  std::string model = "gpt2-124m";
  int64_t batch = 4, sequence_length = 64, steps = 5;
  kernels::DType compute = kernels::DType::f32;
  parallel::Recompute recompute = parallel::Recompute::none;
  int threads = 0;
  bool json = false;
};

data::SequenceBatch random_batch(const TrainBenchRequest& r, int64_t vocabulary, uint64_t step) {
  data::SequenceBatch batch;
  batch.sequence_length = r.sequence_length;
  const int64_t count = r.batch * r.sequence_length;
  for (int64_t i = 0; i < count; ++i) {
    const auto draw = [&](uint64_t key) {
      return static_cast<int32_t>(random_below(key, step * static_cast<uint64_t>(count) + static_cast<uint64_t>(i),
                                               static_cast<uint64_t>(vocabulary)));
    };
    batch.tokens.push_back(draw(1));
    batch.labels.push_back(draw(2));
    batch.positions.push_back(static_cast<int32_t>(i % r.sequence_length));
  }
  for (int64_t b = 0; b < r.batch; ++b) batch.sequence_ids.push_back(b);
  batch.target_count = count;
  return batch;
}

Status bench_train(const TrainBenchRequest& r) {
  parallel::DecoderConfig config = TROUPE_TRY(parallel::decoder_preset(r.model));
  if (r.sequence_length > config.context)
    return usage_error("--seq {} is longer than the model's context of {}", r.sequence_length, config.context);
  const auto device = kernels::make_cpu_device(threads_or_default(r.threads));
  const double peak = kernels::cpu::measure_fma_peak(device->threads(), r.compute);
  train::TrainOptions options;
  options.steps = 1000;
  options.sequence_length = r.sequence_length;
  options.global_batch = options.micro_batch = r.batch;
  options.recompute = r.recompute;
  options.learning_rate = {.schedule = train::Schedule::constant, .peak = 1e-4};
  parallel::MeshGroups alone;
  train::Trainer trainer(config, options, parallel::Numerics::of(r.compute), *device, alone);
  const SteadyClock clock;
  std::vector<double> seconds;
  double loss = 0;
  for (int64_t step = 0; step <= r.steps; ++step) {  // the first warms up
    const data::SequenceBatch batch = random_batch(r, config.vocabulary, static_cast<uint64_t>(step));
    if (step == 1) device->allocator().reset_peak();
    const double start = clock.seconds();
    loss = TROUPE_TRY(trainer.step(batch)).loss;
    if (step > 0) seconds.push_back(clock.seconds() - start);
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const double tokens = static_cast<double>(r.batch * r.sequence_length);
  const double flops = config.training_flops_per_token(r.sequence_length) * tokens;
  const int64_t peak_bytes = device->allocator().use().peak_bytes;
  const parallel::TrainingMemory planned =
      parallel::training_memory(config, parallel::Numerics::of(r.compute), r.batch, r.sequence_length, r.recompute);
  if (r.json) {
    JsonWriter out;
    out.begin_object()
        .field("model", r.model)
        .field("batch", r.batch)
        .field("sequence_length", r.sequence_length)
        .field("compute", kernels::name_of(r.compute))
        .field("threads", device->threads().size())
        .field("step_seconds", median)
        .field("fastest_step_seconds", seconds.front())
        .field("tokens_per_second", tokens / median)
        .field("gflops_per_second", flops / median * 1e-9)
        .field("fma_peak_gflops_per_second", peak * 1e-9)
        .field("share_of_peak", flops / median / peak)
        .field("peak_bytes", peak_bytes)
        .field("planned_bytes", planned.total())
        .field("loss", loss)
        .end_object();
    fmt::print("{}\n", out.text());
    return {};
  }
  fmt::print("{}, batch {} × {} tokens, {}, {} threads: {:.1f} tokens/s, {:.3f} s a step (fastest {:.3f})\n", r.model,
             r.batch, r.sequence_length, kernels::name_of(r.compute), device->threads().size(), tokens / median, median,
             seconds.front());
  fmt::print("  {:.1f} GFLOP/s, {:.1f}% of the {:.1f} GFLOP/s that fused multiply-adds reach here\n",
             flops / median * 1e-9, 100 * flops / median / peak, peak * 1e-9);
  const auto bytes = [](int64_t count) { return human_bytes(static_cast<double>(count)); };
  fmt::print("  {} at peak; planned {}: parameters {}, gradients {}, optimizer {}, activations {}\n", bytes(peak_bytes),
             bytes(planned.total()), bytes(planned.parameters), bytes(planned.gradients), bytes(planned.optimizer),
             bytes(planned.activations));
  return {};
}

}  // namespace

void add_bench_train_command(CLI::App& bench, Action& action) {
  CLI::App* command = bench.add_subcommand("train", "Training steps of a model on random tokens");
  auto request = std::make_shared<TrainBenchRequest>();
  command->add_option("--model", request->model, "a preset")->capture_default_str();
  command->add_option("--batch", request->batch, "sequences a step")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--seq", request->sequence_length, "tokens a sequence")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--steps", request->steps, "steps measured, after one that warms up")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--compute", request->compute, "arithmetic: f32 or bf16 (default: f32)")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, kernels::DType>{{"f32", kernels::DType::f32}, {"bf16", kernels::DType::bf16}}));
  command->add_option("--recompute", request->recompute, "none, attention or block (default: none)")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, parallel::Recompute>{{"none", parallel::Recompute::none},
                                                     {"attention", parallel::Recompute::attention},
                                                     {"block", parallel::Recompute::block}}));
  command->add_option("--threads", request->threads, "threads (default: all cores)")->check(CLI::PositiveNumber);
  command->add_flag("--json", request->json, "print one JSON object");
  command->callback([&action, request] { action = [request] { return bench_train(*request); }; });
}

}  // namespace troupe::launcher
