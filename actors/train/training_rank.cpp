#include "actors/train/training_rank.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "actors/train/trainer_state.h"

namespace troupe::train {

using kernels::MemoryKind;
using kernels::Tensor;

namespace {

constexpr int64_t kPassesBetweenStops = 8;  // of validation

Result<std::shared_ptr<const RunSetup>> read_setup(const RankAssignment& assignment, kernels::Device& device,
                                                   FileSystem& files, const StopCheck& stop) {
  Config config = TROUPE_TRY(Config::parse(assignment.config, assignment.config_path));
  auto setup = std::make_shared<RunSetup>(TROUPE_TRY(RunSetup::read(config, stop)));
  TROUPE_TRY(
      setup->open_data(assignment.out, files, device.threads(), [&](int64_t, int64_t) { return !is_stopped(stop); }));
  return std::shared_ptr<const RunSetup>(std::move(setup));
}

// What a rank reads may have changed since the head has read it.
Status check_same(const RankAssignment& assignment, const RunSetup& setup) {
  const bool same_tokenizer = setup.tokenizer->fingerprint() == assignment.tokenizer_fingerprint;
  if (same_tokenizer && setup.data->fingerprint == assignment.data_fingerprint) return {};
  return failed("the {} changed while the run went on; put back what it began with, then go on with --resume",
                same_tokenizer ? "training data" : "tokenizer");
}

}  // namespace

Result<std::unique_ptr<TrainingRank>> TrainingRank::create(const RankAssignment& assignment,
                                                           std::shared_ptr<const RunSetup> setup,
                                                           kernels::Device& device, parallel::Communicator& ranks,
                                                           FileSystem& files, const Clock& clock, TraceSink* trace,
                                                           const StopCheck& stop) {
  if (setup == nullptr) setup = TROUPE_TRY(read_setup(assignment, device, files, stop));
  TROUPE_TRY(check_same(assignment, *setup));
  const parallel::Layout layout = TROUPE_TRY(setup->layout(ranks.size()));
  std::unique_ptr<TrainingRank> rank(
      new TrainingRank(assignment, std::move(setup), layout, device, ranks, files, clock, trace, stop));
  if (is_stopped(stop)) return Error(ErrorKind::interrupted, "stopped while the model was built");
  return rank;
}

TrainingRank::TrainingRank(const RankAssignment& assignment, std::shared_ptr<const RunSetup> setup,
                           const parallel::Layout& layout, kernels::Device& device, parallel::Communicator& ranks,
                           FileSystem& files, const Clock& clock, TraceSink* trace, const StopCheck& stop)
    : ranks_(ranks),
      clock_(clock),
      activity_(clock, trace),
      store_(files, assignment.out + "/checkpoints"),
      generation_(assignment.generation),
      config_(assignment.config),
      setup_(std::move(setup)),
      groups_(parallel::Mesh(layout.mesh, ranks.rank()), ranks),
      trainer_(std::make_unique<Trainer>(setup_->options.model, setup_->options.train,
                                         setup_->options.numerics.numerics, device, groups_, Sharing::of(layout),
                                         stop)),
      peak_flops_(assignment.peak_flops),
      flops_per_token_(setup_->options.model.training_flops_per_token(setup_->options.train.sequence_length)) {
  trainer_->report_to(&activity_);
  groups_.trace_to(trace);
}

Status TrainingRank::load(const std::string& folder, const StopCheck& stop) {
  const checkpoint::Checkpoint checkpoint = TROUPE_TRY(checkpoint::Checkpoint::open(folder));
  TROUPE_TRY(load_state(checkpoint, *trainer_, stop));
  sequences_ = checkpoint.manifest().sequences;
  return {};
}

Result<PlanReport> TrainingRank::run(const StepPlan& plan, RankObserver& observer) {
  TROUPE_CHECK(plan.first_step == completed() + 1, "a plan from step {} after step {}", plan.first_step, completed());
  bool stopped = false;
  while (completed() < plan.last_step) {
    activity_.set_step(completed() + 1);
    const Phase phase(&activity_, "step");
    std::optional<MetricsLine> line = TROUPE_TRY(step());
    stopped = !line;
    if (stopped) break;
    if (validates_after(line->step)) validate(*line);
    if (ranks_.rank() == 0) observer.stepped(*line);
  }
  TROUPE_TRY(stage(observer));
  return PlanReport{{}, completed(), stopped};
}

bool TrainingRank::validates_after(int64_t step) const {
  const TrainOptions& options = setup_->options.train;
  if (!setup_->data->validation) return false;
  return step == options.steps || (options.validate_every > 0 && step % options.validate_every == 0);
}

Result<std::optional<MetricsLine>> TrainingRank::step() {
  const double start = clock_.seconds();
  const TrainOptions& options = setup_->options.train;
  const int64_t share = trainer_->local_batch();
  const int64_t begin = sequences_ + trainer_->mesh().rank(parallel::Axis::data) * share;
  const data::SequenceBatch batch = read(begin, begin + share);
  const Trainer::Meeting meeting = trainer_->meet(batch, stop_requested_);
  if (meeting.stop) return std::optional<MetricsLine>();
  const StepReport report = TROUPE_TRY(trainer_->step(batch, meeting.targets));
  sequences_ += options.global_batch;
  MetricsLine line;
  line.step = report.step;
  line.loss = report.loss;
  line.tokens = sequences_ * options.sequence_length;
  line.step_seconds = clock_.seconds() - start;
  line.tokens_per_second = static_cast<double>(report.tokens) / line.step_seconds;
  line.gradient_norm = report.gradient_norm;
  line.learning_rate = report.learning_rate;
  line.mfu = peak_flops_ > 0 ? flops_per_token_ * line.tokens_per_second / peak_flops_ : 0;
  line.generation = generation_;
  if (setup_->options.model.expert_layers() > 0) {
    line.balance_loss = report.balance_loss;
    line.z_loss = report.z_loss;
    line.expert_load_entropy = report.expert_load_entropy;
  }
  return std::optional(line);
}

data::SequenceBatch TrainingRank::read(int64_t begin, int64_t end) {
  const Phase phase(&activity_, "data");
  return setup_->data->sampler.sequences(begin, end);
}

// Each rank takes its share of the split, in order; sums are joined at the end.
void TrainingRank::validate(MetricsLine& line) {
  const Phase phase(&activity_, "validation");
  const data::ValidationSet& set = *setup_->data->validation;
  const TrainOptions& options = setup_->options.train;
  int64_t count = set.count();
  if (options.validation_sequences > 0) count = std::min(count, options.validation_sequences);
  const int64_t size = trainer_->mesh().size(parallel::Axis::data), rank = trainer_->mesh().rank(parallel::Axis::data);
  const int64_t begin = count * rank / size, end = count * (rank + 1) / size;
  // As many parts on all ranks; what comes between two of them is the chance to stop.
  const int64_t chunk = trainer_->options().micro_batch * kPassesBetweenStops;
  const int64_t parts = (((count + size - 1) / size) + chunk - 1) / chunk;
  ValidationReport all;
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t from = std::min(begin + part * chunk, end);
    if (trainer_->meet({}, stop_requested_).stop) return;  // a part would pass for the whole
    const ValidationReport report = trainer_->evaluate(set.sequences(from, std::min(from + chunk, end)));
    all.loss += report.loss;
    all.targets += report.targets;
  }
  if (all.targets == 0) return;
  line.validation_loss = all.loss / static_cast<double>(all.targets);
  if (count == set.count()) {
    line.validation_bits_per_byte = all.loss / std::numbers::ln2 / static_cast<double>(set.text_bytes());
  }
}

Status TrainingRank::stage(RankObserver& observer) {
  if (ranks_.rank() > 0) {
    if (!trainer_->has_whole_state()) state_tensors(*trainer_);  // rank 0 needs this one's part
    return {};
  }
  const Phase phase(&activity_, "checkpoint stage");
  checkpoint::Manifest header;
  header.step = completed();
  header.sequences = sequences_;
  header.seed = setup_->options.train.seed;
  header.generation = generation_;
  header.config = config_;
  header.labels = setup_->labels();
  const std::vector<checkpoint::NamedTensor> tensors = state_tensors(*trainer_);
  observer.staged(TROUPE_TRY(store_.stage(std::move(header), tensors, [this](const std::string& into) {
    return setup_->tokenizer->save(into + "/tokenizer");
  })));
  return {};
}

}  // namespace troupe::train
