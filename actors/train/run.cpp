#include "actors/train/run.h"

#include <cmath>
#include <numbers>

#include "actors/train/loss_curve.h"
#include "actors/train/trainer_state.h"
#include "runtime/base/json.h"

namespace troupe::train {
namespace {

constexpr std::string_view kTokenizerLabel = "tokenizer";
constexpr std::string_view kTokens = "tokens";  // folder of the encoded data, in OUT

class Run {
 public:
  Run(Config& config, const RunRequest& request, kernels::Device& device, FileSystem& files, const Clock& clock,
      RunObserver& observer)
      : config_(config),
        request_(request),
        device_(device),
        files_(files),
        clock_(clock),
        observer_(observer),
        store_(files, request.out + "/checkpoints") {}

  Status operator()() {
    TROUPE_TRY(prepare());
    TROUPE_TRY(resume());
    TROUPE_TRY(announce());
    const double start = clock_.seconds();
    RunEnd end;
    while (trainer_->completed() < options_.train.steps) {
      if (observer_.stop_requested()) {
        end.interrupted = true;
        break;
      }
      TROUPE_TRY(step());
      const int64_t done = trainer_->completed();
      if (options_.checkpoint.every > 0 && done % options_.checkpoint.every == 0) TROUPE_TRY(save());
    }
    TROUPE_TRY(save());
    TROUPE_TRY(draw());
    end.steps = trainer_->completed();
    end.loss = last_.loss;
    end.validation_loss = last_.validation_loss;
    end.validation_bits_per_byte = last_.validation_bits_per_byte;
    end.seconds = clock_.seconds() - start;
    end.checkpoint = saved_;
    observer_.ended(end);
    if (!end.interrupted) return {};
    return Error(ErrorKind::interrupted,
                 fmt::format("stopped after step {} of {}, state saved in {}; go on with --resume", end.steps,
                             options_.train.steps, saved_));
  }

 private:
  Status prepare() {
    options_ = TROUPE_TRY(read_run_config(config_));
    TROUPE_TRY(check_out());
    tokenizer_ = TROUPE_TRY(data::open_tokenizer(options_.data));
    TROUPE_TRY(complete_model(options_, tokenizer_->vocabulary_size()));
    TROUPE_TRY(create_directories(files_, request_.out));
    if (options_.data.cache.empty()) options_.data.cache = request_.out + "/" + std::string(kTokens);
    data_.emplace(TROUPE_TRY(data::open_training_data(files_, options_.data, *tokenizer_,
                                                      options_.train.sequence_length, options_.train.seed,
                                                      device_.threads(), [this](int64_t done, int64_t total) {
                                                        observer_.preparing(done, total);
                                                        return !observer_.stop_requested();
                                                      })));
    trainer_ = std::make_unique<Trainer>(options_.model, options_.train, options_.numerics.numerics, device_);
    if (request_.peak_flops) peak_flops_ = request_.peak_flops(options_.numerics.numerics.compute);
    flops_per_token_ = options_.model.training_flops_per_token(options_.train.sequence_length);
    return {};
  }

  Status check_out() {
    if (request_.resume || !exists(request_.out)) return {};
    for (const DirectoryEntry& entry : TROUPE_TRY(files_.list(request_.out))) {
      if (entry.name == kTokens) continue;  // all that a start leaves whose data were refused
      return usage_error("--out {} is not empty; go on from it with --resume, or choose another folder", request_.out);
    }
    return {};
  }

  // Takes the newest checkpoint that can be read to its last byte; none at all starts fresh. Those that
  // cannot are set aside, so that none of them passes for a good one later.
  Status resume() {
    generation_ = next_generation();
    TROUPE_TRY(write_file_atomically(files_, request_.out + "/generation", fmt::format("{}\n", generation_)));
    const std::vector<std::string> folders = request_.resume ? store_.list() : std::vector<std::string>();
    std::vector<std::string> unreadable;
    for (const std::string& folder : folders) {
      const auto checkpoint = checkpoint::Checkpoint::open(folder);
      if (checkpoint.ok()) TROUPE_TRY(check_fits(*checkpoint));
      const Status loaded = checkpoint.ok() ? load_state(*checkpoint, *trainer_) : Status(checkpoint.error());
      if (loaded.ok()) {
        for (const std::string& damaged : unreadable) TROUPE_TRY(store_.set_aside(damaged));
        saved_ = folder;
        sequences_ = checkpoint->manifest().sequences;
        read_history();
        return {};
      }
      if (folder == folders.back()) return loaded;
      observer_.warned(loaded.error().message() + "; trying the one before it");
      unreadable.push_back(folder);
    }
    return {};
  }

  // Of a checkpoint that is whole but another run's: no older one would fit better.
  Status check_fits(const checkpoint::Checkpoint& checkpoint) const {
    TROUPE_TRY(check_tokenizer(checkpoint));
    Config config = TROUPE_TRY(Config::parse(checkpoint.manifest().config, checkpoint.folder() + "/manifest.json"));
    RunConfig theirs = TROUPE_TRY(read_run_config(config));
    TROUPE_TRY(complete_model(theirs, tokenizer_->vocabulary_size()));
    if (const std::string difference = first_difference(theirs.model, options_.model); !difference.empty()) {
      return damaged("{} holds another model than the config: {}", checkpoint.folder(), difference);
    }
    return {};
  }

  void read_history() {
    history_ = read_loss_history(metrics_path());
    for (auto* points : {&history_.training, &history_.validation}) {
      std::erase_if(*points, [this](const LossPoint& p) { return p.step > trainer_->completed(); });
    }
    if (!history_.training.empty()) last_.loss = history_.training.back().loss;
  }

  Status check_tokenizer(const checkpoint::Checkpoint& checkpoint) const {
    const auto& labels = checkpoint.manifest().labels;
    const auto label = labels.find(std::string(kTokenizerLabel));
    if (label != labels.end() && label->second == tokenizer_->fingerprint()) return {};
    return damaged("{} was trained with another tokenizer than data.tokenizer = \"{}\" ({})", checkpoint.folder(),
                   options_.data.tokenizer, tokenizer_->description());
  }

  int64_t next_generation() const {
    const auto text = read_file(request_.out + "/generation", 64);
    return text.ok() ? std::atoll(text->c_str()) + 1 : 0;
  }

  Status announce() {
    JsonWriter run(2);
    run.begin_object()
        .field("troupe", TROUPE_VERSION)
        .field("config_file", request_.config_path)
        .field("generation", generation_)
        .field("seed", options_.train.seed)
        .field("device", device_.description())
        .field("layout", "1 rank")
        .field("tokenizer", tokenizer_->description())
        .field("vocabulary", options_.model.vocabulary)
        .field("parameters", trainer_->parameters().global_elements());
    run.key("config").raw(config_.to_json()).end_object();
    TROUPE_TRY(write_file_atomically(files_, request_.out + "/run.json", run.text() + "\n"));
    metrics_.emplace(TROUPE_TRY(LineWriter::open(metrics_path())));
    observer_.started({request_.config_path, request_.out, options_, tokenizer_->description(), device_.description(),
                       trainer_->parameters().global_elements(), data_->train_tokens,
                       data_->validation ? data_->validation->target_count() : 0, trainer_->completed() + 1});
    return {};
  }

  Status step() {
    const int64_t begin = sequences_;
    const double start = clock_.seconds();
    const data::SequenceBatch batch = data_->sampler.sequences(begin, begin + options_.train.global_batch);
    auto stepped = trainer_->step(batch);
    if (!stepped.ok()) {
      const std::string kept = saved_.empty() ? "no checkpoint was saved yet" : "the last good checkpoint is " + saved_;
      return failed("{}; {}", stepped.error().message(), kept);
    }
    sequences_ += options_.train.global_batch;
    last_ = {};
    last_.step = stepped->step;
    last_.loss = stepped->loss;
    last_.tokens = sequences_ * options_.train.sequence_length;
    last_.step_seconds = clock_.seconds() - start;
    last_.tokens_per_second = static_cast<double>(stepped->tokens) / last_.step_seconds;
    last_.gradient_norm = stepped->gradient_norm;
    last_.learning_rate = stepped->learning_rate;
    last_.mfu = peak_flops_ > 0 ? flops_per_token_ * last_.tokens_per_second / peak_flops_ : 0;
    last_.generation = generation_;
    history_.training.push_back({last_.step, last_.loss});

    const int64_t every = options_.train.validate_every;
    const bool final_step = last_.step == options_.train.steps;
    if (data_->validation && (final_step || (every > 0 && last_.step % every == 0))) validate();
    if (last_.step % options_.metrics.every == 0 || last_.validation_loss) TROUPE_TRY(metrics_->write(last_.to_json()));
    observer_.stepped(last_, options_.train.steps);
    if (last_.validation_loss) {
      observer_.validated(last_);
      TROUPE_TRY(draw());
    }
    return {};
  }

  void validate() {
    const data::ValidationSet& set = *data_->validation;
    int64_t count = set.count();
    if (options_.train.validation_sequences > 0) count = std::min(count, options_.train.validation_sequences);
    const bool whole = count == set.count();
    ValidationReport total;
    for (int64_t begin = 0; begin < count; begin += options_.train.micro_batch) {
      if (observer_.stop_requested()) return;  // a part would pass for the whole
      const ValidationReport part =
          trainer_->evaluate(set.sequences(begin, std::min(begin + options_.train.micro_batch, count)));
      total.loss += part.loss;
      total.targets += part.targets;
    }
    if (total.targets == 0) return;
    last_.validation_loss = total.loss / static_cast<double>(total.targets);
    if (whole && total.targets == set.target_count()) {
      last_.validation_bits_per_byte = total.loss / std::numbers::ln2 / static_cast<double>(set.text_bytes());
    }
    history_.validation.push_back({last_.step, *last_.validation_loss});
  }

  Status save() {
    checkpoint::Manifest header;
    header.step = trainer_->completed();
    header.sequences = sequences_;
    header.seed = options_.train.seed;
    header.generation = generation_;
    header.config = config_.to_toml();
    header.labels[std::string(kTokenizerLabel)] = tokenizer_->fingerprint();
    const double start = clock_.seconds();
    const std::vector<checkpoint::NamedTensor> tensors = state_tensors(*trainer_);
    const std::string folder = TROUPE_TRY(store_.save(
        std::move(header), tensors, [this](const std::string& into) { return tokenizer_->save(into + "/tokenizer"); }));
    if (folder == saved_) return {};
    saved_ = folder;
    observer_.saved(saved_, trainer_->completed(), clock_.seconds() - start);
    return store_.prune(options_.checkpoint.keep);
  }

  Status draw() {
    const std::string title =
        fmt::format("{}: {:.2f}M parameters", request_.config_path.substr(request_.config_path.rfind('/') + 1),
                    static_cast<double>(trainer_->parameters().global_elements()) / 1e6);
    return write_file_atomically(files_, request_.out + "/loss.svg",
                                 draw_loss_curve(title, history_.training, history_.validation));
  }

  std::string metrics_path() const { return request_.out + "/metrics.jsonl"; }

  Config& config_;
  const RunRequest& request_;
  kernels::Device& device_;
  FileSystem& files_;
  const Clock& clock_;
  RunObserver& observer_;
  checkpoint::CheckpointStore store_;
  RunConfig options_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  std::optional<data::TrainingData> data_;
  std::unique_ptr<Trainer> trainer_;
  std::optional<LineWriter> metrics_;
  LossHistory history_;
  MetricsLine last_;
  std::string saved_;
  int64_t generation_ = 0;
  int64_t sequences_ = 0;  // consumed: the data position
  double flops_per_token_ = 0, peak_flops_ = 0;
};

}  // namespace

Status run_training(Config& config, const RunRequest& request, kernels::Device& device, FileSystem& files,
                    const Clock& clock, RunObserver& observer) {
  return Run(config, request, device, files, clock, observer)();
}

}  // namespace troupe::train
