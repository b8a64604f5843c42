#include "parallel/model/parameter_bucket.h"

#include <algorithm>
#include <utility>

#include "kernels/ops/kernels.h"

namespace troupe::parallel {

using kernels::MemoryKind;

ParameterBucket::ParameterBucket(Group group, Communicator& replicas, int zero_stage, Device& device, Numerics numerics,
                                 DType dtype, bool training)
    : group_(group),
      replicas_(replicas),
      stage_(training && replicas.size() > 1 ? zero_stage : 0),
      device_(device),
      dtype_(dtype),
      accumulator_(kernels::accumulator_of(numerics.compute)),
      training_(training),
      counts_(divided() || replicas.rank() == 0),
      ranks_(divided() ? replicas.size() : 1),
      rank_(divided() ? replicas.rank() : 0) {}

void ParameterBucket::add(Parameter& parameter) {
  TROUPE_CHECK(!allocated_, "{} comes late to its bucket", parameter.name());
  parameter.bucket_ = this;
  parameter.offset_ = used_;
  used_ += parameter.local_shape().elements();
  parameters_.push_back(&parameter);
}

void ParameterBucket::allocate() {
  allocated_ = true;
  piece_ = (used_ + ranks_ - 1) / ranks_;
  if (stage_ < 3) make_values();
  if (!training_) {
    masters_ = values_;
    return;
  }
  if (stage_ == 3 || accumulator_ != dtype_) {
    masters_ = Tensor::empty(device_, accumulator_, {piece_}, MemoryKind::parameters);
  } else {
    masters_ = piece_of(values_);
  }
  if (stage_ >= 2) {
    gradient_piece_ = Tensor::empty(device_, accumulator_, {piece_}, MemoryKind::gradients);
  } else {
    make_gradients();
    gradient_piece_ = piece_of(gradients_);
  }
}

void ParameterBucket::show(Tensor Parameter::* view, const Tensor& flat) {
  for (Parameter* p : parameters_) {
    p->*view = flat.defined()
                   ? flat.slice(p->offset_, p->offset_ + p->local_shape().elements()).reshape(p->local_shape())
                   : Tensor();
  }
}

void ParameterBucket::make_values() {
  values_ = Tensor::empty(device_, dtype_, {elements()}, MemoryKind::parameters);
  show(&Parameter::value_, values_);
}

void ParameterBucket::make_gradients() {
  if (gradients_.defined()) return;
  gradients_ = Tensor::empty(device_, accumulator_, {elements()}, MemoryKind::gradients);
  if (elements() > used_) gradients_.slice(used_, elements()).fill_zero();
  show(&Parameter::gradient_, gradients_);
}

Tensor ParameterBucket::separate_values() const {
  if (stage_ == 3 || accumulator_ == dtype_) return {};
  return piece_of(values_);
}

void ParameterBucket::masters_changed() {
  Tensor values = separate_values();
  if (values.defined()) device_.kernels().tensor.convert(device_, masters_, values);
  if (stage_ == 1 || stage_ == 2) start_gather().wait();
}

Pending ParameterBucket::start_gather() {
  TROUPE_CHECK(divided(), "a bucket of one rank is always whole");
  if (stage_ < 3) return replicas_.all_gather(piece_of(values_), values_);
  TROUPE_CHECK(!whole(), "the values of {} are gathered twice", parameters_.front()->name());
  make_values();
  const Tensor mine = piece_of(values_);
  Tensor into = mine;
  device_.kernels().tensor.convert(device_, masters_, into);
  return replicas_.all_gather(mine, values_);
}

void ParameterBucket::release() {
  if (stage_ < 3) return;
  values_ = Tensor();
  show(&Parameter::value_, values_);
}

void ParameterBucket::complete_gradients() {
  if (replicas_.size() > 1 || !training_) return;
  for (Parameter* p : parameters_) {
    const kernels::GradientTarget target = p->gradient();
    if (!target.accumulate) p->gradient_accumulator().fill_zero();
  }
}

Pending ParameterBucket::start_reduction() {
  make_gradients();
  for (Parameter* p : parameters_) {
    if (!p->has_gradient()) p->gradient_accumulator().fill_zero();
  }
  if (!divided()) return replicas_.all_reduce(gradients_);
  reduced_ = Tensor::empty(device_, accumulator_, {piece_}, MemoryKind::buffers);
  return replicas_.reduce_scatter(gradients_, reduced_);
}

void ParameterBucket::finish_reduction(Pending& pending) {
  pending.wait();
  for (Parameter* p : parameters_) p->forget_gradient();
  if (!divided()) return;
  if (stage_ >= 2 && std::exchange(reduced_once_, true)) {
    device_.kernels().tensor.add_into(device_, reduced_, gradient_piece_);
  } else {
    gradient_piece_.copy_from(reduced_);
  }
  reduced_ = Tensor();
  if (stage_ < 2) return;
  gradients_ = Tensor();
  show(&Parameter::gradient_, gradients_);
}

void ParameterBucket::forget_gradients() {
  for (Parameter* p : parameters_) p->forget_gradient();
  reduced_once_ = false;
}

std::vector<ParameterBucket::Segment> ParameterBucket::segments() const {
  std::vector<Segment> segments;
  const int64_t begin = piece_begin(), end = begin + piece_;
  for (Parameter* p : parameters_) {
    const int64_t from = std::max(begin, p->offset_);
    const int64_t to = std::min(end, p->offset_ + p->local_shape().elements());
    if (from < to) segments.push_back({p, from - begin, to - begin, from - p->offset_});
  }
  return segments;
}

}  // namespace troupe::parallel
