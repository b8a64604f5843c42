// Tensor: dtype, shape and a reference to storage on one device. Always contiguous, row-major; a slice
// of the first dimension is again contiguous, and that is the only view beside reshape.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor/device.h"
#include "kernels/tensor/dtype.h"

namespace troupe::kernels {

// Up to six sizes. A shape of no dimensions has one element.
class Shape {
 public:
  static constexpr int kMaxDims = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes);

  int dims() const { return dims_; }
  int64_t operator[](int dim) const { return sizes_[static_cast<size_t>(dim < 0 ? dim + dims_ : dim)]; }
  int64_t elements() const;
  std::span<const int64_t> sizes() const { return {sizes_.data(), static_cast<size_t>(dims_)}; }
  std::string to_string() const;  // "[4, 64, 768]"

  friend bool operator==(const Shape& a, const Shape& b);

 private:
  std::array<int64_t, kMaxDims> sizes_{};
  int dims_ = 0;
};

class Tensor {
 public:
  Tensor() = default;  // undefined: no device, no elements

  // Contents undefined. Storage returns to the device's allocator with the last tensor that refers to it.
  static Tensor empty(Device&, DType, Shape, MemoryKind = MemoryKind::activations);
  static Tensor zeros(Device&, DType, Shape, MemoryKind = MemoryKind::activations);
  // Copies `values` (as many as the shape has) to the device.
  template <class T>
  static Tensor from(Device& device, std::span<const T> values, Shape shape,
                     MemoryKind kind = MemoryKind::activations) {
    TROUPE_CHECK(static_cast<int64_t>(values.size()) == shape.elements(), "{} values for shape {}", values.size(),
                 shape.to_string());
    Tensor result = empty(device, dtype_of<T>, shape, kind);
    device.copy_from_host(result.raw(), values.data(), values.size_bytes());
    return result;
  }

  bool defined() const { return storage_ != nullptr; }
  Device& device() const;
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int index) const { return shape_[index]; }
  int64_t elements() const { return shape_.elements(); }
  int64_t rows() const;  // product of all dimensions but the last
  int64_t bytes() const { return elements() * size_of(dtype_); }
  // True when no other tensor refers to this storage: it may be written in place.
  bool unique() const { return storage_.use_count() == 1; }
  bool shares_storage_with(const Tensor& other) const { return storage_ == other.storage_; }

  void* raw() const;
  // REQUIRES: T is this tensor's element type; memory the host can reach.
  template <class T>
  T* data() const {
    TROUPE_CHECK(dtype_of<T> == dtype_, "asked for {}, the tensor is {}", name_of(dtype_of<T>), name_of(dtype_));
    return static_cast<T*>(raw());
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<size_t>(elements())};
  }
  // All elements on the host, converted to T (double holds every f64, f32 and bf16 exactly).
  template <class T>
  std::vector<T> to_host() const;

  Tensor reshape(Shape shape) const;               // same elements; shares storage
  Tensor slice(int64_t begin, int64_t end) const;  // rows [begin, end) of dimension 0; shares storage
  Tensor to(DType dtype, MemoryKind = MemoryKind::activations) const;  // a converted copy (same dtype: a copy)
  void copy_from(const Tensor& other);                                 // same dtype and element count
  void fill_zero();

 private:
  struct Storage;
  std::shared_ptr<Storage> storage_;
  int64_t offset_ = 0;  // elements
  DType dtype_ = DType::f32;
  Shape shape_;
};

}  // namespace troupe::kernels
