#include "launcher/commands/bench_gemm.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "kernels/cpu/peak.h"
#include "kernels/ops/kernels.h"
#include "launcher/commands/common.h"
#include "runtime/base/json.h"

namespace troupe::launcher {
namespace {

using kernels::DType;
using kernels::MatmulForm;
using kernels::Shape;
using kernels::Tensor;

constexpr int64_t kColdBytes = 256 << 20;  // copies of a packed weight, more than any cache holds

const char* name_of(const GemmShape& shape) {
  if (shape.packed) return "nt, packed";
  return shape.form == MatmulForm::nt ? "nt" : shape.form == MatmulForm::nn ? "nn" : "tn";
}

Tensor values(kernels::Device& device, DType type, Shape shape) {
  std::vector<float> numbers(static_cast<size_t>(shape.elements()));
  uint32_t state = 1;
  for (float& number : numbers) {
    state = state * 1664525 + 1013904223;
    number = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return Tensor::from<float>(device, numbers, shape).to(type);
}

}  // namespace

std::vector<GemmShape> training_shapes(int64_t tokens) {
  std::vector<GemmShape> shapes;
  for (auto [in, out] : {std::pair<int64_t, int64_t>{768, 768}, {768, 2304}, {768, 3072}, {3072, 768}}) {
    shapes.push_back({MatmulForm::nt, tokens, out, in});
    shapes.push_back({MatmulForm::nn, tokens, in, out});
    shapes.push_back({MatmulForm::tn, out, in, tokens});
  }
  return shapes;
}

std::vector<GemmShape> decode_shapes(int64_t rows) {
  std::vector<GemmShape> shapes;
  for (auto [in, out] : {std::pair<int64_t, int64_t>{768, 3072}, {3072, 768}, {4096, 4096}}) {
    shapes.push_back({MatmulForm::nt, rows, out, in, true});
  }
  return shapes;
}

GemmFigure measure_gemm(kernels::Device& device, const GemmShape& shape, DType type, double peak_flops_per_second,
                        double seconds) {
  const kernels::MatmulKernels& matmul = device.kernels().matmul;
  const auto [form, M, N, K, packed] = shape;
  const Tensor a = values(device, type, form == MatmulForm::tn ? Shape{K, M} : Shape{M, K});
  const Tensor b = values(device, type, form == MatmulForm::nt ? Shape{N, K} : Shape{K, N});
  Tensor c = Tensor::zeros(device, kernels::accumulator_of(type), {M, N});
  std::vector<kernels::PackedMatrix> weights;
  for (int64_t i = 0; packed && i < std::max<int64_t>(1, kColdBytes / b.bytes()); ++i) {
    weights.push_back(matmul.pack(device, b, kernels::MemoryKind::buffers));
  }
  const kernels::MatmulOptions options{.accumulate = form == MatmulForm::tn};
  const double flops = 2.0 * static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K);
  const auto products = packed ? weights.size() : static_cast<size_t>(std::max(1.0, 2e7 / flops));
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  double best = 1e30;
  const auto begin = Clock::now();
  for (int run = 0; run < 3 || seconds_since(begin) < seconds; ++run) {
    const auto start = Clock::now();
    for (size_t i = 0; i < products; ++i) {
      if (packed) matmul.multiply_packed(device, a, weights[i], c, options);
      else matmul.multiply(device, form, a, b, c, options);
    }
    if (run > 0) best = std::min(best, seconds_since(start) / static_cast<double>(products));
  }
  return {.shape = shape,
          .type = type,
          .threads = device.threads().size(),
          .seconds = best,
          .flops_per_second = flops / best,
          .weight_bytes_per_second = static_cast<double>(b.bytes()) / best,
          .share_of_peak = flops / best / peak_flops_per_second};
}

namespace {

Status bench_gemm(int threads, const std::string& type_name, int64_t tokens, bool json) {
  std::vector<DType> types;
  if (type_name != "bf16") types.push_back(DType::f32);
  if (type_name != "f32") types.push_back(DType::bf16);
  const auto device = kernels::make_cpu_device(threads_or_default(threads));
  const double bandwidth = kernels::cpu::measure_read_bandwidth(device->threads());
  JsonWriter out;
  out.begin_object().field("device", device->description()).field("read_bytes_per_second", bandwidth);
  out.key("figures").begin_array();
  if (!json) fmt::print("{}; reads memory at {:.1f} GB/s\n", device->description(), bandwidth / 1e9);
  for (DType type : types) {
    const double peak = kernels::cpu::measure_fma_peak(device->threads(), type);
    if (!json) {
      fmt::print("\n{}: fused multiply-adds at {:.0f} GFLOP/s\n", kernels::name_of(type), peak / 1e9);
      fmt::print("{:12}{:>7}{:>7}{:>7}{:>11}{:>8}{:>12}\n", "form", "M", "N", "K", "GFLOP/s", "peak", "weight GB/s");
    }
    std::vector<GemmShape> shapes = training_shapes(tokens);
    for (int64_t rows : {1, 4, 8}) std::ranges::copy(decode_shapes(rows), std::back_inserter(shapes));
    for (const GemmShape& shape : shapes) {
      const GemmFigure f = measure_gemm(*device, shape, type, peak, 0.4);
      if (json) {
        out.begin_object()
            .field("dtype", kernels::name_of(type))
            .field("form", name_of(shape))
            .field("M", shape.M)
            .field("N", shape.N)
            .field("K", shape.K)
            .field("threads", f.threads)
            .field("flops_per_second", f.flops_per_second)
            .field("share_of_peak", f.share_of_peak)
            .field("weight_bytes_per_second", f.weight_bytes_per_second)
            .end_object();
      } else {
        fmt::print("{:12}{:>7}{:>7}{:>7}{:>11.1f}{:>7.0f}%{:>12.1f}\n", name_of(shape), shape.M, shape.N, shape.K,
                   f.flops_per_second / 1e9, f.share_of_peak * 100, f.weight_bytes_per_second / 1e9);
        std::fflush(stdout);
      }
    }
  }
  out.end_array().end_object();
  if (json) fmt::print("{}\n", out.text());
  return {};
}

}  // namespace

void add_bench_gemm_command(CLI::App& bench, Action& action) {
  struct Options {
    int threads = 0;
    std::string type = "both";
    int64_t tokens = 512;
    bool json = false;
  };
  CLI::App* command = bench.add_subcommand("gemm", "Matrix products of training and decoding, against the FMA peak");
  auto options = std::make_shared<Options>();
  command->add_option("--threads", options->threads, "threads (default: all cores)")->check(CLI::Range(1, 1024));
  command->add_option("--dtype", options->type, "f32, bf16 or both")->check(CLI::IsMember({"f32", "bf16", "both"}));
  command->add_option("--tokens", options->tokens, "rows of the training shapes")->check(CLI::Range(1, 1 << 20));
  command->add_flag("--json", options->json, "print JSON");
  command->callback(
      [&action, options] { action = [o = *options] { return bench_gemm(o.threads, o.type, o.tokens, o.json); }; });
}

}  // namespace troupe::launcher
