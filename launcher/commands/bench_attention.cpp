// troupe bench attention: forward and backward over training shapes, and decode over a cache.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "kernels/cpu/peak.h"
#include "launcher/commands/bench.h"
#include "launcher/commands/common.h"
#include "launcher/commands/measure_attention.h"
#include "runtime/base/json.h"

namespace troupe::launcher {
namespace {

struct AttentionRequest {
  AttentionCase one;
  int threads = 0;
  bool json = false;
};

Status bench_attention(const AttentionRequest& r) {
  const auto device = kernels::make_cpu_device(threads_or_default(r.threads));
  if (!r.json)
    fmt::print("{:>5} {:>6} {:>9} {:>14} {:>7} {:>15} {:>7}\n", "dtype", "T", "B×H, d", "forward GF/s", "of peak",
               "backward GF/s", "of peak");
  for (kernels::DType dtype : {kernels::DType::f32, kernels::DType::bf16}) {
    const double peak = kernels::cpu::measure_fma_peak(device->threads(), dtype) * 1e-9;
    for (int64_t tokens : {int64_t{64}, int64_t{256}, int64_t{1024}}) {
      AttentionCase what = r.one;
      what.dtype = dtype;
      what.tokens = tokens;
      const AttentionSpeed speed = measure_attention(*device, what);
      if (r.json) {
        JsonWriter out;
        out.begin_object()
            .field("dtype", kernels::name_of(dtype))
            .field("batch", what.batch)
            .field("tokens", tokens)
            .field("heads", what.heads)
            .field("kv_heads", what.kv_heads)
            .field("head_width", what.width)
            .field("threads", device->threads().size())
            .field("forward_gflops_per_second", speed.forward_gflops())
            .field("backward_gflops_per_second", speed.backward_gflops())
            .field("fma_peak_gflops_per_second", peak)
            .end_object();
        fmt::print("{}\n", out.text());
      } else {
        fmt::print("{:>5} {:>6} {:>9} {:>14.1f} {:>6.0f}% {:>15.1f} {:>6.0f}%\n", kernels::name_of(dtype), tokens,
                   fmt::format("{}, {}", what.batch * what.heads, what.width), speed.forward_gflops(),
                   100 * speed.forward_gflops() / peak, speed.backward_gflops(), 100 * speed.backward_gflops() / peak);
      }
    }
  }
  return {};
}

}  // namespace

void add_bench_attention_command(CLI::App& bench, Action& action) {
  CLI::App* command =
      bench.add_subcommand("attention", "Causal attention, forward and backward, at 64, 256 and 1024 tokens");
  auto request = std::make_shared<AttentionRequest>();
  command->add_option("--batch", request->one.batch, "sequences")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--heads", request->one.heads, "query heads")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--kv-heads", request->one.kv_heads, "key and value heads")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--head-width", request->one.width, "width of a head")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--threads", request->threads, "threads (default: all cores)")->check(CLI::PositiveNumber);
  command->add_flag("--json", request->json, "print one JSON object a line");
  command->callback([&action, request] {
    action = [request]() -> Status {
      if (request->one.heads % request->one.kv_heads != 0)
        return usage_error("--kv-heads {} does not divide --heads {}", request->one.kv_heads, request->one.heads);
      return bench_attention(*request);
    };
  });
}

}  // namespace troupe::launcher
