// Scratch of the norms: the weight in f32, and sums over rows that do not depend on the threads.
#pragma once
#include "kernels/cpu/reference.h"

namespace troupe::kernels::cpu {

// A vector of parameters as f32: itself, or a converted copy. Undefined stays null.
class WideWeight {
 public:
  explicit WideWeight(const Tensor& weight) {
    if (weight.defined()) tensor_ = weight.dtype() == DType::f32 ? weight : weight.to(DType::f32, MemoryKind::buffers);
  }
  const float* data() const { return tensor_.defined() ? tensor_.data<float>() : nullptr; }

 private:
  Tensor tensor_;
};

// `columns` sums over all rows (0: none wanted): each fixed chunk of rows into its own zeroed array, then the
// arrays joined in the chunks' order.
template <class A>
class ColumnSums {
 public:
  ColumnSums(Device& device, int64_t rows, int64_t columns) : device_(device), chunks_(rows), columns_(columns) {
    if (columns > 0) partial_ = Tensor::empty(device, dtype_of<A>, {chunks_.count, columns}, MemoryKind::buffers);
  }

  // Calls body(begin, end, sums or null) once per chunk, in parallel.
  template <class Body>
  void for_chunks(const Body& body) {
    device_.threads().parallel_for(chunks_.count, [&](int64_t chunk) {
      A* sums = columns_ > 0 ? partial_.template data<A>() + chunk * columns_ : nullptr;
      if (sums) std::fill(sums, sums + columns_, A(0));
      body(chunks_.begin(chunk), chunks_.end(chunk), sums);
    });
  }

  // Writes or adds the totals of columns [first, first + target's elements); nothing without a tensor.
  void add_to(const GradientTarget& target, int64_t first) {
    if (!target.tensor.defined()) return;
    const int64_t width = target.tensor.elements();
    dispatch_float(target.tensor.dtype(), [&]<class G>() {
      G* to = target.tensor.template data<G>();
      parallel_elements(device_, width, 4096 / std::max<int64_t>(chunks_.count, 1), [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; block += 256) {
          const int64_t length = std::min<int64_t>(256, end - block);
          A sums[256] = {};
          for (int64_t chunk = 0; chunk < chunks_.count; ++chunk) {
            const A* from = partial_.template data<A>() + chunk * columns_ + first + block;
            for (int64_t i = 0; i < length; ++i) sums[i] += from[i];
          }
          for (int64_t i = 0; i < length; ++i) write(to[block + i], sums[i], target.accumulate);
        }
      });
    });
  }

 private:
  Device& device_;
  RowChunks chunks_;
  int64_t columns_;
  Tensor partial_;
};

}  // namespace troupe::kernels::cpu
