#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/isa.h"

namespace troupe::kernels {
namespace {

const Kernels& cpu_kernels() {
  static const Kernels kernels{
      .tensor = cpu::tensor_kernels(),
      .matmul = cpu::matmul_kernels(),
      .linear = cpu::linear_kernels(),
      .add = cpu::add_kernels(),
      .rms_norm = cpu::rms_norm_kernels(),
      .layer_norm = cpu::layer_norm_kernels(),
      .rope = cpu::rope_kernels(),
      .activation = cpu::activation_kernels(),
      .gated = cpu::gated_kernels(),
      .embedding = cpu::embedding_kernels(),
      .dropout = cpu::dropout_kernels(),
      .softmax_cross_entropy = cpu::softmax_cross_entropy_kernels(),
      .adamw = cpu::adamw_kernels(),
      .sgd = cpu::sgd_kernels(),
      .global_norm = cpu::global_norm_kernels(),
      .attention = cpu::attention_kernels(),
      .router = cpu::router_kernels(),
      .permutation = cpu::permutation_kernels(),
  };
  return kernels;
}

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(int threads) : threads_(threads), allocator_(memory_) {}

  DeviceKind kind() const override { return DeviceKind::cpu; }
  std::string description() const override {
    return fmt::format("cpu, {} thread{}, {}", threads_.size(), threads_.size() == 1 ? "" : "s", cpu::isa_name());
  }
  CachingAllocator& allocator() override { return allocator_; }
  const Kernels& kernels() const override { return cpu_kernels(); }
  ThreadPool& threads() override { return threads_; }
  void copy_from_host(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);  // of nothing, `from` may be null
  }
  void copy_to_host(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);  // of nothing, `from` may be null
  }

 private:
  ThreadPool threads_;
  SystemMemory memory_;
  CachingAllocator allocator_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(int threads) {
  const Result<void> cap = cpu::cap_isa_from_environment();
  TROUPE_CHECK(cap.ok(), "{}", cap.error().message());
  return std::make_unique<CpuDevice>(threads);
}

}  // namespace troupe::kernels
