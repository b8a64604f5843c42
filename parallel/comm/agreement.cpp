#include "parallel/comm/agreement.h"

#include <algorithm>

namespace troupe::parallel {
namespace {

using kernels::DType;
using kernels::MemoryKind;
using kernels::Tensor;

int64_t largest(Communicator& group, kernels::Device& device, int64_t here) {
  const Tensor value = Tensor::from<int64_t>(device, std::span(&here, 1), {1}, MemoryKind::buffers);
  group.all_reduce(value, Reduction::maximum).wait();
  return value.to_host<int64_t>()[0];
}

}  // namespace

Status agree(Communicator& group, kernels::Device& device, const Status& here, int weight) {
  if (group.size() == 1) return here;
  // The claim of a rank: its weight, then how low it is, then (for the others to know) kind and length of its error.
  const int64_t size = group.size();
  const int64_t claim = here.ok() ? 0 : weight * size + size - group.rank();
  const int64_t won = largest(group, device, claim);
  if (won == 0) return here;
  const int root = static_cast<int>(size - 1 - (won - 1) % size);
  std::vector<int64_t> about(2);
  if (!here.ok()) about = {here.error().exit_code(), static_cast<int64_t>(here.error().message().size())};
  const Tensor kind_and_length = Tensor::from<int64_t>(device, about, {2}, MemoryKind::buffers);
  group.broadcast(kind_and_length, root).wait();
  about = kind_and_length.to_host<int64_t>();
  std::vector<uint8_t> text(static_cast<size_t>(about[1]));
  if (group.rank() == root) std::ranges::copy(here.error().message(), text.begin());
  const Tensor message = Tensor::from<uint8_t>(device, text, {about[1]}, MemoryKind::buffers);
  group.broadcast(message, root).wait();
  message.device().copy_to_host(text.data(), message.raw(), text.size());
  return Error(static_cast<ErrorKind>(about[0]), std::string(text.begin(), text.end()));
}

}  // namespace troupe::parallel
