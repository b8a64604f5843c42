// Where tensors live and kernels run. A rank owns one Device and hands it to everything that computes:
// the CPU's holds a thread pool, others their streams. There is no current device.
#pragma once
#include <memory>
#include <string>

#include "kernels/tensor/allocator.h"
#include "runtime/base/thread_pool.h"

namespace troupe::kernels {

struct Kernels;  // kernels/ops/kernels.h: one function per kernel, filled in by each kind of device

enum class DeviceKind : uint8_t { cpu, cuda };

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceKind kind() const = 0;
  virtual std::string description() const = 0;  // "cpu, 2 threads, AVX3"
  virtual CachingAllocator& allocator() = 0;
  virtual const Kernels& kernels() const = 0;
  virtual ThreadPool& threads() = 0;  // host threads that belong to this rank
  // Bytes from host memory to this device's and back; returns when the copy is done.
  virtual void copy_from_host(void* to, const void* from, size_t bytes) = 0;
  virtual void copy_to_host(void* to, const void* from, size_t bytes) = 0;
};

// The CPU, with its own pool of `threads` ≥ 1 (the caller's thread counts). Outlives its tensors.
std::unique_ptr<Device> make_cpu_device(int threads);

}  // namespace troupe::kernels
