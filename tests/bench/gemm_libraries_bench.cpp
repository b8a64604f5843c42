// Matrix products beside oneDNN's and OpenBLAS's, one program, one thread each, in turn: the reason why
// ours are our own.
//   OMP_NUM_THREADS=1 OPENBLAS_CORETYPE=SkylakeX gemm_libraries_bench    (OpenBLAS knows few newer CPUs by itself)
#include <cblas.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <oneapi/dnnl/dnnl.hpp>

#include "kernels/cpu/peak.h"
#include "kernels/ops/kernels.h"

extern "C" void openblas_set_num_threads(int);

namespace {

using namespace troupe;
using namespace troupe::kernels;

struct Product {
  MatmulForm form;
  int64_t M, N, K;
};

// Processor time of this thread: neighbours on the machine do not count.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double best_seconds(const std::function<void()>& run) {
  run();
  double best = 1e9, spent = 0;
  for (int i = 0; i < 5 || (spent < 0.4 && i < 200); ++i) {
    const double begin = thread_seconds();
    run();
    const double seconds = thread_seconds() - begin;
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

Tensor ramp(Device& device, DType type, Shape shape) {
  std::vector<float> values(static_cast<size_t>(shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7919 % 2048) / 1024 - 1;
  return Tensor::from<float>(device, values, shape).to(type);
}

double ours(Device& device, const Product& p, const Tensor& a, const Tensor& b, Tensor& c) {
  return best_seconds([&] { device.kernels().matmul.multiply(device, p.form, a, b, c, {}); });
}

double onednn(const Product& p, const Tensor& a, const Tensor& b, Tensor& c) {
  using dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto type = a.dtype() == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  const auto plain = memory::format_tag::ab, turned = memory::format_tag::ba;
  const memory::desc da({p.M, p.K}, type, p.form == MatmulForm::tn ? turned : plain);
  const memory::desc db({p.K, p.N}, type, p.form == MatmulForm::nt ? turned : plain);
  const memory::desc dc({p.M, p.N}, memory::data_type::f32, plain);
  const dnnl::matmul product(dnnl::matmul::primitive_desc(dnnl::matmul::desc(da, db, dc), engine));
  memory ma(da, engine, a.raw()), mb(db, engine, b.raw()), mc(dc, engine, c.raw());
  return best_seconds([&] {
    product.execute(stream, {{DNNL_ARG_SRC, ma}, {DNNL_ARG_WEIGHTS, mb}, {DNNL_ARG_DST, mc}});
    stream.wait();
  });
}

double openblas(const Product& p, const Tensor& a, const Tensor& b, Tensor& c) {
  const auto left = p.form == MatmulForm::tn ? CblasTrans : CblasNoTrans;
  const auto right = p.form == MatmulForm::nt ? CblasTrans : CblasNoTrans;
  const int M = static_cast<int>(p.M), N = static_cast<int>(p.N), K = static_cast<int>(p.K);
  return best_seconds([&] {
    cblas_sgemm(CblasRowMajor, left, right, M, N, K, 1, a.data<float>(), p.form == MatmulForm::tn ? M : K,
                b.data<float>(), p.form == MatmulForm::nt ? K : N, 0, c.data<float>(), N);
  });
}

}  // namespace

int main() {
  openblas_set_num_threads(1);
  const auto device = make_cpu_device(1);
  for (DType type : {DType::f32, DType::bf16}) {
    const double peak = cpu::measure_fma_peak(device->threads(), type) * 1e-9;
    fmt::print("{}: GFLOP/s on one thread, peak {:.0f}\n{:22} {:>8} {:>8} {:>9} {:>13}\n", name_of(type), peak,
               "form, M N K", "ours", "oneDNN", "OpenBLAS", "ours of peak");
    for (const auto& [in, out] :
         {std::pair<int64_t, int64_t>{768, 768}, {768, 2304}, {768, 3072}, {3072, 768}, {768, 50257}}) {
      const int64_t T = 512;
      for (const Product& p :
           {Product{MatmulForm::nt, T, out, in}, {MatmulForm::nn, T, in, out}, {MatmulForm::tn, out, in, T}}) {
        const Tensor a = ramp(*device, type, p.form == MatmulForm::tn ? Shape{p.K, p.M} : Shape{p.M, p.K});
        const Tensor b = ramp(*device, type, p.form == MatmulForm::nt ? Shape{p.N, p.K} : Shape{p.K, p.N});
        Tensor c = Tensor::empty(*device, DType::f32, {p.M, p.N});
        const double flops = 2e-9 * static_cast<double>(p.M) * static_cast<double>(p.N) * static_cast<double>(p.K);
        const double mine = flops / ours(*device, p, a, b, c), dnnl = flops / onednn(p, a, b, c);
        const std::string blas = type == DType::f32 ? fmt::format("{:.0f}", flops / openblas(p, a, b, c)) : "-";
        const char* form = p.form == MatmulForm::nt ? "NT" : p.form == MatmulForm::nn ? "NN" : "TN";
        fmt::print("{:22} {:8.0f} {:8.0f} {:>9} {:12.0f}%\n", fmt::format("{} {} {} {}", form, p.M, p.N, p.K), mine,
                   dnnl, blas, 100 * mine / peak);
      }
    }
  }
}
