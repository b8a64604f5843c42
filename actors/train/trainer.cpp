#include "actors/train/trainer.h"

#include <cmath>
#include <numeric>

#include "kernels/ops/global_norm.h"
#include "parallel/comm/agreement.h"
#include "parallel/comm/bucket.h"

namespace troupe::train {

using kernels::DType;
using kernels::MemoryKind;
using kernels::Tape;
using kernels::Tensor;
using kernels::Value;

namespace {

// Losses come one a token; their sum is taken in f64 in the order of the batch.
double sum_of(const Tensor& losses) {
  const std::vector<double> values = losses.to_host<double>();
  return std::accumulate(values.begin(), values.end(), 0.0);
}

// The gradient of the mean loss with respect to every token's loss.
Tensor filled(kernels::Device& device, DType dtype, int64_t rows, double weight) {
  if (dtype == DType::f64)
    return Tensor::from<double>(device, std::vector<double>(static_cast<size_t>(rows), weight), {rows});
  return Tensor::from<float>(device, std::vector<float>(static_cast<size_t>(rows), static_cast<float>(weight)), {rows});
}

}  // namespace

Trainer::Trainer(parallel::DecoderConfig config, TrainOptions options, parallel::Numerics numerics,
                 kernels::Device& device, parallel::Communicator& data, const StopCheck& stop)
    : options_(options),
      device_(device),
      data_(data),
      parameters_(std::make_unique<parallel::ParameterSet>(parallel::Mesh(), device, numerics, true)),
      model_(std::make_unique<parallel::Decoder>(std::move(config), *parameters_)),
      optimizer_(std::make_unique<parallel::AdamW>(*parameters_, options.optimizer)) {
  TROUPE_CHECK(options_.global_batch % data_.size() == 0, "a global batch of {} for {} ranks", options_.global_batch,
               data_.size());
  if (options_.micro_batch == 0) options_.micro_batch = local_batch();
  TROUPE_CHECK(options_.micro_batch > 0 && local_batch() % options_.micro_batch == 0,
               "microbatches of {} in a rank's batch of {}", options_.micro_batch, local_batch());
  for (parallel::Parameter* parameter : parameters_->all()) {
    if (is_stopped(stop)) break;
    parameter->initialize(options_.seed);
  }
}

parallel::Batch Trainer::upload(const data::SequenceBatch& from, int64_t begin, int64_t end, bool training) {
  const int64_t T = from.sequence_length, B = end - begin;
  const auto rows = [&](const std::vector<int32_t>& values) {
    if (values.empty()) return Tensor();
    return Tensor::from<int32_t>(device_,
                                 std::span(values).subspan(static_cast<size_t>(begin * T), static_cast<size_t>(B * T)),
                                 {B, T}, MemoryKind::buffers);
  };
  parallel::Batch batch;
  batch.tokens = rows(from.tokens);
  batch.labels = rows(from.labels);
  batch.positions = rows(from.positions);
  batch.first_visible = rows(from.first_visible);
  batch.sequence_ids = Tensor::from<int64_t>(
      device_, std::span(from.sequence_ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(B)), {B},
      MemoryKind::buffers);
  batch.seed = options_.seed;
  batch.step = static_cast<uint64_t>(completed_);
  batch.training = training;
  batch.label_smoothing = static_cast<float>(options_.label_smoothing);
  return batch;
}

Trainer::Meeting Trainer::meet(const data::SequenceBatch& batch, bool stop) {
  const std::vector<int64_t> all = sum_over_ranks<int64_t>("count targets", {batch.target_count, stop ? 1 : 0});
  return {all[0], all[1] > 0};
}

Result<StepReport> Trainer::step(const data::SequenceBatch& batch, int64_t targets) {
  const int64_t sequences = batch.size();
  TROUPE_CHECK(sequences == local_batch(), "a rank's batch of {} sequences, not {}", sequences, local_batch());
  StepReport report;
  report.step = completed_ + 1;
  report.tokens = options_.global_batch * batch.sequence_length;
  report.learning_rate = options_.learning_rate.at(report.step, options_.steps);
  const double weight = targets > 0 ? 1.0 / static_cast<double>(targets) : 0;

  double loss = 0;
  std::optional<NotFinite> found;
  for (int64_t begin = 0; begin < sequences && !found; begin += options_.micro_batch) {
    std::optional<Phase> phase(std::in_place, activity_, "forward");
    const parallel::Batch micro = upload(batch, begin, begin + options_.micro_batch, true);
    Tape tape(device_);
    const Value losses = model_->losses(tape, micro, options_.recompute);
    const double sum = sum_of(losses.tensor());
    if (!std::isfinite(sum)) found = NotFinite{"loss", sum, begin, begin + options_.micro_batch};
    loss += sum;
    if (found) continue;
    phase.emplace(activity_, "backward");
    const Tensor weights = filled(device_, losses.dtype(), losses.tensor().elements(), weight);
    tape.backward(std::span(&losses, 1), std::span(&weights, 1));
  }
  const std::vector<double> all = sum_over_ranks<double>("loss all-reduce", {loss, found ? 1.0 : 0.0});
  if (all[1] > 0) return explain(batch, weight, found);
  report.loss = all[0] * weight;
  sum_gradients();
  std::optional<Phase> phase(std::in_place, activity_, "gradient norm");
  report.gradient_norm = optimizer_->gradient_norm();  // the same bits on all ranks: all of them see what is wrong
  phase.reset();
  if (!std::isfinite(report.gradient_norm))
    return explain(batch, weight, NotFinite{"gradient norm", report.gradient_norm, 0, sequences});
  phase.emplace(activity_, "optimizer");
  optimizer_->step(report.step, report.learning_rate, report.gradient_norm);
  completed_ = report.step;
  return report;
}

template <class T>
std::vector<T> Trainer::sum_over_ranks(const char* what, std::vector<T> values) {
  if (data_.size() == 1) return values;
  const Phase phase(activity_, what);
  const Tensor sums = Tensor::from<T>(device_, values, {static_cast<int64_t>(values.size())}, MemoryKind::buffers);
  data_.all_reduce(sums).wait();
  return sums.template to_host<T>();
}

void Trainer::sum_gradients() {
  if (data_.size() == 1) return;
  const Phase phase(activity_, "gradient all-reduce");
  std::vector<Tensor> gradients;
  for (parallel::Parameter* p : parameters_->all()) {
    const kernels::GradientTarget target = p->gradient();
    if (!target.accumulate) p->gradient_accumulator().fill_zero();  // this rank's tokens did not use it
    gradients.push_back(p->gradient_accumulator());
  }
  parallel::all_reduce_together(data_, gradients);
}

Error Trainer::explain(const data::SequenceBatch& batch, double weight, const std::optional<NotFinite>& found) {
  const auto forget_gradients = [&] {
    for (parallel::Parameter* p : parameters_->all()) p->forget_gradient();
  };
  Status here;
  std::string where;
  forget_gradients();
  if (found) {
    where = first_non_finite(batch, found->begin, found->end, weight);
    here = failed("step {}: the {} is {}; first not finite in {}{}", completed_ + 1, found->what, found->value,
                  where.empty() ? "no operation when run again" : where,
                  data_.size() > 1 ? fmt::format(" on rank {}", data_.rank()) : std::string());
  }
  const Phase phase(activity_, "agreement");
  const Status all = parallel::agree(data_, device_, here, where.empty() ? 0 : 1);
  TROUPE_CHECK(!all.ok(), "no rank has found what one has told of");
  forget_gradients();  // of the run that looked for the operation
  return all.error();
}

ValidationReport Trainer::evaluate(const data::SequenceBatch& batch) {
  const int64_t sequences = batch.size();
  ValidationReport report;
  report.targets = batch.target_count;
  for (int64_t begin = 0; begin < sequences; begin += options_.micro_batch) {
    Tape tape(device_, Tape::Mode::no_gradient);
    const parallel::Batch micro = upload(batch, begin, std::min(begin + options_.micro_batch, sequences), false);
    report.loss += sum_of(model_->losses(tape, micro).tensor());
  }
  return report;
}

std::string Trainer::first_non_finite(const data::SequenceBatch& batch, int64_t begin, int64_t end, double weight) {
  struct Found {
    std::string operation;
  };
  const auto finite = [](const Tensor& tensor) {
    return !kernels::is_float(tensor.dtype()) || std::isfinite(kernels::sum_of_squares(tensor));
  };
  for (parallel::Parameter* p : parameters_->all()) {
    if (!finite(p->value())) return fmt::format("the parameter {}", p->name());
  }
  try {
    for (; begin < end; begin += options_.micro_batch) {
      Tape tape(device_);
      tape.observe([&](const std::string& operation, const Tensor& result) {
        if (!finite(result)) throw Found{operation};
      });
      const parallel::Batch micro = upload(batch, begin, begin + options_.micro_batch, true);
      const Value losses = model_->losses(tape, micro, options_.recompute);
      const Tensor weights = filled(device_, losses.dtype(), losses.tensor().elements(), weight);
      tape.backward(std::span(&losses, 1), std::span(&weights, 1));
      for (parallel::Parameter* p : parameters_->all()) {
        if (p->has_gradient() && !finite(p->gradient_accumulator()))
          return fmt::format("the gradient of {}", p->name());
      }
    }
  } catch (const Found& found) {
    return found.operation;
  }
  return "";
}

}  // namespace troupe::train
