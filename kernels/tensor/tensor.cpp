#include "kernels/tensor/tensor.h"

#include <algorithm>
#include <cstring>

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

Shape::Shape(std::span<const int64_t> sizes) : dims_(static_cast<int>(sizes.size())) {
  TROUPE_CHECK(dims_ <= kMaxDims, "{} dimensions, at most {}", dims_, kMaxDims);
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (int64_t size : sizes()) product *= size;
  return product;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < dims_; ++i) text += fmt::format("{}{}", i ? ", " : "", sizes_[static_cast<size_t>(i)]);
  return text + "]";
}

bool operator==(const Shape& a, const Shape& b) { return std::ranges::equal(a.sizes(), b.sizes()); }

struct Tensor::Storage {
  Device& device;
  void* block;
  int64_t bytes;
  MemoryKind kind;

  Storage(Device& d, int64_t n, MemoryKind k) : device(d), block(d.allocator().allocate(n, k)), bytes(n), kind(k) {}
  ~Storage() { device.allocator().release(block, bytes, kind); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
};

Tensor Tensor::empty(Device& device, DType dtype, Shape shape, MemoryKind kind) {
  Tensor result;
  result.dtype_ = dtype;
  result.shape_ = shape;
  result.storage_ = std::make_shared<Storage>(device, shape.elements() * size_of(dtype), kind);
  return result;
}

Tensor Tensor::zeros(Device& device, DType dtype, Shape shape, MemoryKind kind) {
  Tensor result = empty(device, dtype, shape, kind);
  result.fill_zero();
  return result;
}

Device& Tensor::device() const {
  TROUPE_CHECK(defined(), "an undefined tensor has no device");
  return storage_->device;
}

int64_t Tensor::rows() const { return shape_.dims() == 0 ? 1 : elements() / std::max<int64_t>(shape_[-1], 1); }

void* Tensor::raw() const {
  TROUPE_CHECK(defined(), "an undefined tensor has no data");
  return static_cast<std::byte*>(storage_->block) + offset_ * size_of(dtype_);
}

template <class T>
std::vector<T> Tensor::to_host() const {
  std::vector<std::byte> raw_bytes(static_cast<size_t>(bytes()));
  device().copy_to_host(raw_bytes.data(), raw(), raw_bytes.size());
  std::vector<T> result(static_cast<size_t>(elements()));
  const auto convert = [&]<class Source>(Source) {
    for (size_t i = 0; i < result.size(); ++i) {
      Source element;
      std::memcpy(&element, raw_bytes.data() + i * sizeof(Source), sizeof(Source));
      if constexpr (std::is_same_v<Source, bf16>) result[i] = static_cast<T>(static_cast<float>(element));
      else result[i] = static_cast<T>(element);
    }
  };
  switch (dtype_) {
    case DType::f64: convert(double{}); break;
    case DType::f32: convert(float{}); break;
    case DType::bf16: convert(bf16{}); break;
    case DType::i64: convert(int64_t{}); break;
    case DType::i32: convert(int32_t{}); break;
    case DType::u8: convert(uint8_t{}); break;
  }
  return result;
}
template std::vector<double> Tensor::to_host<double>() const;
template std::vector<float> Tensor::to_host<float>() const;
template std::vector<int64_t> Tensor::to_host<int64_t>() const;
template std::vector<int32_t> Tensor::to_host<int32_t>() const;

Tensor Tensor::reshape(Shape shape) const {
  TROUPE_CHECK(shape.elements() == elements(), "{} does not reshape to {}", shape_.to_string(), shape.to_string());
  Tensor result = *this;
  result.shape_ = shape;
  return result;
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  TROUPE_CHECK(shape_.dims() > 0 && 0 <= begin && begin <= end && end <= dim(0), "rows {}–{} of {}", begin, end,
               shape_.to_string());
  Tensor result = *this;
  std::vector<int64_t> sizes(shape_.sizes().begin(), shape_.sizes().end());
  const int64_t row = dim(0) == 0 ? 0 : elements() / dim(0);
  sizes[0] = end - begin;
  result.offset_ += begin * row;
  result.shape_ = Shape(sizes);
  return result;
}

Tensor Tensor::to(DType dtype, MemoryKind kind) const {
  Tensor result = empty(device(), dtype, shape_, kind);
  device().kernels().tensor.convert(device(), *this, result);
  return result;
}

void Tensor::copy_from(const Tensor& other) {
  TROUPE_CHECK(other.dtype_ == dtype_ && other.elements() == elements(), "copy of {} {} into {} {}",
               name_of(other.dtype_), other.shape_.to_string(), name_of(dtype_), shape_.to_string());
  device().kernels().tensor.convert(device(), other, *this);
}

void Tensor::fill_zero() { device().kernels().tensor.fill_zero(device(), *this); }

}  // namespace troupe::kernels
