// troupe bench generate: prefill and decode speed of a model with random weights.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "kernels/cpu/peak.h"
#include "launcher/commands/bench.h"
#include "launcher/commands/common.h"
#include "parallel/model/decoder.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"

namespace troupe::launcher {
namespace {

using kernels::Tensor;

struct GenerateBenchRequest {
  std::string model = "llama-125m";
  int64_t prompt = 512, tokens = 128, repetitions = 5;
  kernels::DType compute = kernels::DType::f32;
  int threads = 0;
  bool json = false;
};

// Runs `tokens` ids behind what the cache holds, and the head on the last one.
void run(const parallel::Decoder& model, parallel::KvCache& cache, int64_t tokens) {
  kernels::Device& device = model.parameters().device();
  std::vector<int32_t> ids, positions;
  for (int64_t t = 0; t < tokens; ++t) {
    ids.push_back(static_cast<int32_t>((cache.length + t) * 7919 % model.config().vocabulary));
    positions.push_back(static_cast<int32_t>(cache.length + t));
  }
  parallel::Batch batch;
  batch.tokens = Tensor::from<int32_t>(device, ids, {1, tokens});
  batch.positions = Tensor::from<int32_t>(device, positions, {1, tokens});
  batch.cache = &cache;
  kernels::Tape tape(device, kernels::Tape::Mode::no_gradient);
  const Tensor hidden = model.forward(tape, batch).tensor().reshape({tokens, model.config().width});
  cache.length += tokens;
  model.logits(tape, tape.constant(hidden.slice(tokens - 1, tokens)));
}

Status bench_generate(const GenerateBenchRequest& r) {
  parallel::DecoderConfig config = TROUPE_TRY(parallel::decoder_preset(r.model));
  if (r.prompt + r.tokens > config.context)
    return usage_error("--prompt and --tokens together exceed the model's context of {}", config.context);
  const auto device = kernels::make_cpu_device(threads_or_default(r.threads));
  const double bandwidth = kernels::cpu::measure_read_bandwidth(device->threads());
  const double peak = kernels::cpu::measure_fma_peak(device->threads(), r.compute);
  parallel::ParameterSet parameters(*device, parallel::Numerics::of(r.compute), false);
  parallel::Decoder model(config, parameters);
  for (parallel::Parameter* p : parameters.all()) p->initialize(1);
  model.pack();
  const SteadyClock clock;
  std::vector<double> prefill, decode;
  for (int64_t i = 0; i <= r.repetitions; ++i) {  // the first warms up
    parallel::KvCache cache = model.make_cache(1, r.prompt + r.tokens);
    double start = clock.seconds();
    run(model, cache, r.prompt);
    if (i > 0) prefill.push_back(clock.seconds() - start);
    cache.length = 0;  // decode from an empty context, as llama-bench does
    start = clock.seconds();
    for (int64_t t = 0; t < r.tokens; ++t) run(model, cache, 1);
    if (i > 0) decode.push_back(clock.seconds() - start);
  }
  std::sort(prefill.begin(), prefill.end());
  std::sort(decode.begin(), decode.end());
  const double prefill_speed = static_cast<double>(r.prompt) / prefill[prefill.size() / 2];
  const double decode_speed = static_cast<double>(r.tokens) / decode[decode.size() / 2];
  const double weight_bytes = static_cast<double>(
      (config.parameters() - (config.tied ? 0 : config.vocabulary * config.width)) * kernels::size_of(r.compute));
  if (r.json) {
    JsonWriter out;
    out.begin_object()
        .field("model", r.model)
        .field("compute", kernels::name_of(r.compute))
        .field("threads", device->threads().size())
        .field("prompt_tokens", r.prompt)
        .field("decode_tokens", r.tokens)
        .field("prefill_tokens_per_second", prefill_speed)
        .field("decode_tokens_per_second", decode_speed)
        .field("decode_weight_bytes_per_second", weight_bytes * decode_speed)
        .field("read_bandwidth_bytes_per_second", bandwidth)
        .field("fma_peak_flops_per_second", peak)
        .end_object();
    fmt::print("{}\n", out.text());
    return {};
  }
  fmt::print(
      "{}, {}, {} threads: prefill {} tokens {:.0f} tokens/s; decode {} tokens {:.1f} tokens/s = {:.1f} GB/s of "
      "weights, {:.0f}% of the "
      "{:.1f} GB/s read here; peak {:.0f} GFLOP/s\n",
      r.model, kernels::name_of(r.compute), device->threads().size(), r.prompt, prefill_speed, r.tokens, decode_speed,
      weight_bytes * decode_speed * 1e-9, 100 * weight_bytes * decode_speed / bandwidth, bandwidth * 1e-9, peak * 1e-9);
  return {};
}

}  // namespace

void add_bench_generate_command(CLI::App& bench, Action& action) {
  CLI::App* command = bench.add_subcommand("generate", "Prefill and decode of a model with random weights");
  auto request = std::make_shared<GenerateBenchRequest>();
  command->add_option("--model", request->model, "a preset")->capture_default_str();
  command->add_option("--prompt", request->prompt, "tokens of the prefill")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--tokens", request->tokens, "tokens decoded one by one")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--repetitions", request->repetitions, "runs, after one that warms up; the median counts")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--compute", request->compute, "arithmetic: f32 or bf16 (default: f32)")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, kernels::DType>{{"f32", kernels::DType::f32}, {"bf16", kernels::DType::bf16}}));
  command->add_option("--threads", request->threads, "threads (default: all cores)")->check(CLI::PositiveNumber);
  command->add_flag("--json", request->json, "print one JSON object");
  command->callback([&action, request] { action = [request] { return bench_generate(*request); }; });
}

}  // namespace troupe::launcher
