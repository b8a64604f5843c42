#include "actors/train/run_folder.h"

#include <charconv>

#include "runtime/base/json.h"

namespace troupe::train {
namespace {

constexpr std::string_view kLock = ".lock";

Status check_empty(FileSystem& files, const std::string& out) {
  if (!exists(out)) return {};
  for (const DirectoryEntry& entry : TROUPE_TRY(files.list(out))) {
    // All that a start leaves whose data were refused.
    if (entry.name == kTokensFolder || entry.name == kLock) continue;
    return usage_error("--out {} is not empty; go on from it with --resume, or choose another folder", out);
  }
  return {};
}

}  // namespace

RunFolder::RunFolder(FileSystem& files, const std::string& out, FileLock lock)
    : files_(&files), out_(out), lock_(std::move(lock)), checkpoints_(files, out + "/checkpoints") {}

Result<RunFolder> RunFolder::take(FileSystem& files, const std::string& out, bool resume) {
  if (!resume) TROUPE_TRY(check_empty(files, out));
  TROUPE_TRY(create_directories(files, out));
  auto lock = FileLock::take(fmt::format("{}/{}", out, kLock));
  if (!lock.ok()) {
    if (lock.error().kind() != ErrorKind::usage) return std::move(lock).error();
    return usage_error("--out {}: another run trains in it ({}); choose another folder, or end that run", out,
                       lock.error().message());
  }
  return RunFolder(files, out, std::move(*lock));
}

Result<int64_t> RunFolder::read_lease() const {
  const std::string path = out_ + "/generation";
  if (!exists(path)) return int64_t{-1};
  const std::string text = TROUPE_TRY(read_file(path, 64));
  int64_t newest = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), newest);
  if (error != std::errc() || newest < 0 || (end != text.data() + text.size() && *end != '\n'))
    return damaged("{}: is no number; write the highest \"generation\" of metrics.jsonl into it", path);
  if (generation_ >= 0 && newest > generation_)
    return failed("{}: another run has begun generation {} there; generation {}, this one's, is over", out_, newest,
                  generation_);
  return newest;
}

Result<int64_t> RunFolder::next_generation() {
  const int64_t next = std::max(TROUPE_TRY(read_lease()), generation_) + 1;
  TROUPE_TRY(write_file_atomically(*files_, out_ + "/generation", fmt::format("{}\n", next)));
  generation_ = next;
  return next;
}

Result<std::string> RunFolder::publish(const checkpoint::CheckpointStore::Staged& staged) {
  TROUPE_TRY(read_lease());
  return checkpoints_.publish(staged);
}

Status RunFolder::set_aside(const std::string& folder) {
  TROUPE_TRY(read_lease());
  return checkpoints_.set_aside(folder);
}

Status RunFolder::write_run_json(const RunSetup& setup, const RunFacts& facts, const std::string& config_json) {
  JsonWriter run(2);
  run.begin_object()
      .field("troupe", TROUPE_VERSION)
      .field("config_file", facts.config_path)
      .field("generation", generation_)
      .field("seed", setup.options.train.seed)
      .field("device", facts.device)
      .field("layout", facts.layout)
      .field("tokenizer", setup.tokenizer->description())
      .field("vocabulary", setup.options.model.vocabulary)
      .field("parameters", facts.parameters);
  run.key("config").raw(config_json).end_object();
  return write_file_atomically(*files_, out_ + "/run.json", run.text() + "\n");
}

Status RunFolder::begin(int64_t step) {
  const std::string path = out_ + "/metrics.jsonl";
  history_ = read_loss_history(path);
  for (auto* points : {&history_.training, &history_.validation}) {
    std::erase_if(*points, [step](const LossPoint& p) { return p.step > step; });
  }
  metrics_.reset();
  metrics_.emplace(TROUPE_TRY(LineWriter::open(path)));
  return {};
}

Status RunFolder::write(const MetricsLine& line, bool to_file) {
  history_.training.push_back({line.step, line.loss});
  if (line.validation_loss) history_.validation.push_back({line.step, *line.validation_loss});
  if (!to_file) return {};
  TROUPE_CHECK(metrics_.has_value());
  return metrics_->write(line.to_json());
}

Status RunFolder::draw(const std::string& title) const {
  if (!metrics_) return {};
  return write_file_atomically(*files_, out_ + "/loss.svg",
                               draw_loss_curve(title, history_.training, history_.validation));
}

double RunFolder::last_loss() const { return history_.training.empty() ? 0 : history_.training.back().loss; }

}  // namespace troupe::train
