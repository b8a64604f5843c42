#include "tests/layout/run_case.h"

#include <cmath>
#include <mutex>
#include <thread>

#include "kernels/ops/kernels.h"
#include "parallel/model/whole_tensor.h"
#include "runtime/base/random.h"

namespace troupe::layout {

using train::Trainer;

namespace {

// Sequences [begin, end) of step `step`: how many targets one has differs widely, and some have none.
data::SequenceBatch read(const Case& c, int64_t step, int64_t begin, int64_t end) {
  data::SequenceBatch batch;
  batch.sequence_length = c.sequence_length;
  for (int64_t s = begin; s < end; ++s) {
    const int64_t id = step * c.global_batch + s;
    RandomStream random{.key = derive_key(c.data_seed, static_cast<uint64_t>(id))};
    const double share = c.target_share * static_cast<double>(random.below(5)) / 4;
    int64_t document = 0;
    for (int64_t t = 0; t < c.sequence_length; ++t) {
      if (c.documents && t > 0 && random.below(4) == 0) document = t;
      batch.tokens.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(c.model.vocabulary))));
      const bool target = static_cast<double>(random.below(1000)) < 1000 * share;
      const auto label = static_cast<int32_t>(random.below(static_cast<uint64_t>(c.model.vocabulary)));
      batch.labels.push_back(target ? label : data::kIgnoredLabel);
      batch.target_count += target;
      batch.positions.push_back(static_cast<int32_t>(c.documents ? t - document : t));
      if (c.documents) batch.first_visible.push_back(static_cast<int32_t>(document));
    }
    batch.sequence_ids.push_back(id);
  }
  return batch;
}

train::TrainOptions options_of(const Case& c, int64_t micro_batch) {
  train::TrainOptions o;
  o.steps = c.steps;
  o.sequence_length = c.sequence_length;
  o.global_batch = c.global_batch;
  o.micro_batch = micro_batch;
  // In bf16 gradients are judged by their distance from what is exact; larger steps would lead each run elsewhere.
  const double rate = c.compute == DType::bf16 ? 1e-4 : c.sgd ? 1e-1 : 1e-3;
  o.learning_rate = {.schedule = train::Schedule::constant, .peak = rate};
  // AdamW divides a gradient by its own size: one that is all rounding would move its parameter as far as any other.
  o.optimizer.epsilon = c.compute == DType::f64 ? 1e-8 : 1e-5;
  o.label_smoothing = static_cast<double>(c.label_smoothing_percent) / 100;
  if (c.sgd) o.optimizer.kind = parallel::OptimizerKind::sgd;
  o.optimizer.gradient_clip = c.clip ? 0.1 : 0;
  return o;
}

Outcome run_rank(const Case& c, parallel::MeshGroups& groups, const train::TrainOptions& options,
                 const train::Sharing& sharing, const Replayed& replayed) {
  Outcome outcome;
  const auto device = kernels::make_cpu_device(1);
  Trainer trainer(c.model, options, parallel::Numerics::of(c.compute), *device, groups, sharing);
  const auto routing = std::make_shared<parallel::Routing>();
  trainer.replay_routing(replayed);
  if (groups.mesh().world_size() == 1) trainer.record_routing(routing);
  outcome.routing = routing;
  const std::vector<parallel::ParameterSpec> specs = parallel::parameter_specs(c.model);
  const auto wholes = [&](const parallel::PieceOf& piece_of, bool masters) {
    std::map<std::string, std::vector<double>> all;
    for (const parallel::ParameterSpec& spec : specs) {
      if (!spec.state || masters)
        all[spec.name] = parallel::whole_tensor(trainer.parameters(), spec, piece_of).to_host<double>();
    }
    return all;
  };
  StepOutcome step;
  trainer.before_update(
      [&] { step.gradients = wholes([](const parallel::ParameterBucket& b) { return b.gradients(); }, false); });
  const int64_t share = trainer.local_batch(), begin = groups.mesh().rank(parallel::Axis::data) * share;
  for (int64_t i = 0; i < c.steps; ++i) {
    const auto report = trainer.step(read(c, i, begin, begin + share));
    if (!report.ok()) {
      outcome.error = report.error().message();
      return outcome;
    }
    step.loss = report->loss;
    step.gradient_norm = report->gradient_norm;
    step.balance_loss = report->balance_loss;
    step.z_loss = report->z_loss;
    step.expert_load_entropy = report->expert_load_entropy;
    outcome.steps.push_back(std::move(step));
    step = {};
  }
  // A validation batch, of which ranks have different numbers of sequences.
  const int64_t data = groups.mesh().size(parallel::Axis::data), sequences = c.global_batch + 1;
  const int64_t at = groups.mesh().rank(parallel::Axis::data);
  outcome.validation_loss = trainer.evaluate(read(c, c.steps, at * sequences / data, (at + 1) * sequences / data)).loss;
  outcome.parameters = wholes([](const parallel::ParameterBucket& b) { return b.masters(); }, true);
  return outcome;
}

double norm_of(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v * v;
  return std::sqrt(sum);
}

}  // namespace

Outcome run_on_one_rank(const Case& c, const Replayed& replayed) {
  parallel::MeshGroups alone;
  train::TrainOptions options = options_of(c, c.reference_micro_batch);
  return run_rank(c, alone, options, {}, replayed);
}

Outcome run_in_world(const Case& c, parallel::Communicator& world, const Replayed& replayed) {
  parallel::MeshGroups groups(parallel::Mesh(c.mesh, world.rank()), world);
  train::TrainOptions options = options_of(c, c.micro_batch);
  options.recompute = c.recompute;
  return run_rank(c, groups, options, c.sharing, replayed);
}

Outcome run_on_layout(const Case& c, const Replayed& replayed, std::chrono::milliseconds deadline) {
  auto world = parallel::make_thread_communicators(c.mesh.ranks(), "world", {.deadline = deadline});
  std::vector<Outcome> outcomes(world.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < world.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        outcomes[rank] = run_in_world(c, *world[rank], replayed);
      } catch (const std::exception& e) {
        outcomes[rank].error = fmt::format("rank {}: {}", rank, e.what());
        world[rank]->abort(outcomes[rank].error);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Outcome& outcome : outcomes) {
    if (!outcome.error.empty()) return outcome;
  }
  for (size_t rank = 1; rank < outcomes.size(); ++rank) {
    for (size_t i = 0; i < outcomes[0].steps.size(); ++i) {
      if (outcomes[rank].steps[i].loss != outcomes[0].steps[i].loss)
        outcomes[0].error = fmt::format("step {}: rank {} reports another loss than rank 0", i + 1, rank);
    }
  }
  return outcomes[0];
}

// f64: 1e-10 of the quantity's size, and for what is zero in theory (key biases) of the whole gradient's.
std::string compare(const Outcome& layout, const Outcome& one, DType compute) {
  if (!layout.error.empty()) return layout.error;
  if (!one.error.empty()) return "one rank: " + one.error;
  const double loss_bound = compute == DType::f64 ? 1e-10 : 1e-5;
  const double tensor_bound = compute == DType::f64 ? 1e-10 : 1e-4;
  for (size_t i = 0; i < one.steps.size(); ++i) {
    const StepOutcome &a = layout.steps[i], &b = one.steps[i];
    if (!(std::abs(a.loss - b.loss) <= loss_bound * std::max(1.0, std::abs(b.loss))))
      return fmt::format("step {}: loss {} instead of {}", i + 1, a.loss, b.loss);
    for (double StepOutcome::* of :
         {&StepOutcome::balance_loss, &StepOutcome::z_loss, &StepOutcome::expert_load_entropy}) {
      if (!(std::abs(a.*of - b.*of) <= loss_bound * std::max(1.0, std::abs(b.*of))))
        return fmt::format("step {}: {} of routers instead of {}", i + 1, a.*of, b.*of);
    }
    if (!(std::abs(a.gradient_norm - b.gradient_norm) <= tensor_bound * b.gradient_norm))
      return fmt::format("step {}: gradient norm {} instead of {}", i + 1, a.gradient_norm, b.gradient_norm);
    for (const auto& [name, expected] : b.gradients) {
      const std::vector<double>& found = a.gradients.at(name);
      double difference = 0;
      for (size_t j = 0; j < expected.size(); ++j) difference += std::pow(found[j] - expected[j], 2);
      const double size = std::max(norm_of(expected), 1e-3 * b.gradient_norm);
      if (!(std::sqrt(difference) <= tensor_bound * size))
        return fmt::format("step {}: gradient of {} is off by {} of {}", i + 1, name, std::sqrt(difference), size);
    }
  }
  const double validation = one.validation_loss;
  if (!(std::abs(layout.validation_loss - validation) <= loss_bound * std::max(1.0, std::abs(validation))))
    return fmt::format("validation loss {} instead of {}", layout.validation_loss, validation);
  if (compute != DType::f64) return "";
  for (const auto& [name, expected] : one.parameters) {
    const std::vector<double>& found = layout.parameters.at(name);
    for (size_t j = 0; j < expected.size(); ++j) {
      if (!(std::abs(found[j] - expected[j]) <= 1e-10))
        return fmt::format("{}[{}] is {} after {} steps instead of {}", name, j, found[j], one.steps.size(),
                           expected[j]);
    }
  }
  return "";
}

// Over all gradients at once: of one small tensor the error is luck.
std::string compare_distances(const Outcome& layout, const Outcome& one, const Outcome& exact) {
  for (const Outcome* outcome : {&layout, &one, &exact}) {
    if (!outcome->error.empty()) return outcome->error;
  }
  const auto distance = [&](const Outcome& outcome) {
    double sum = 0, size = 0;
    for (size_t i = 0; i < exact.steps.size(); ++i) {
      for (const auto& [name, expected] : exact.steps[i].gradients) {
        const std::vector<double>& found = outcome.steps[i].gradients.at(name);
        for (size_t j = 0; j < expected.size(); ++j) {
          sum += std::pow(found[j] - expected[j], 2);
          size += expected[j] * expected[j];
        }
      }
    }
    return std::sqrt(sum / std::max(size, 1e-30));
  };
  // bf16 holds 8 bits: whatever is closer than half a unit in the last place is as good.
  constexpr double kHalfUnit = 1.0 / 512;
  const double ours = distance(layout), theirs = distance(one);
  if (!(ours <= std::max(1.5 * theirs, kHalfUnit)))
    return fmt::format("gradients are off by {} of their size, those of one rank by {}", ours, theirs);
  // A loss is one number, whose distance is the luck of some roundings: 2^-7 of it is far for none.
  for (size_t i = 0; i < exact.steps.size(); ++i) {
    const double right = exact.steps[i].loss;
    const double off = std::abs(layout.steps[i].loss - right), off_one = std::abs(one.steps[i].loss - right);
    if (!(off <= std::max(1.5 * off_one, 4 * kHalfUnit * std::max(1.0, std::abs(right)))))
      return fmt::format("step {}: loss {} instead of {}; one rank: {}", i + 1, layout.steps[i].loss, right,
                         one.steps[i].loss);
  }
  return "";
}

}  // namespace troupe::layout
