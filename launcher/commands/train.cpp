// troupe train: trains what a config describes, and shows how it goes.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>

#include "actors/train/run.h"
#include "kernels/cpu/peak.h"
#include "launcher/commands/command.h"
#include "launcher/commands/common.h"
#include "runtime/base/human_format.h"
#include "runtime/base/progress.h"
#include "runtime/base/signals.h"

namespace troupe::launcher {
namespace {

struct Request {
  std::string config;
  std::vector<std::string> overrides;
  std::string out;
  bool resume = false;
  int64_t ranks = 0, processes = 0;
  int threads = 0;
};

// What a run looks like from outside: lines on stdout, progress on stderr.
class TerminalView final : public train::RunObserver {
 public:
  explicit TerminalView(const Clock& clock) : clock_(clock) {}

  bool stop_requested() override {
    if (signals_.stop_requested() && !told_) {
      told_ = true;
      finish_progress();
      say("{}: finishing the step and saving; a second Ctrl-C stops at once", signals_.signal_name());
    }
    return told_;
  }

  void preparing(int64_t done, int64_t total) override {
    if (done < bytes_done_ || total != bytes_total_) finish_bytes();  // the next dataset
    if (!bytes_) {
      if (done >= total) return;  // too short to show
      bytes_ = std::make_unique<ByteProgress>(clock_, ProgressOutput::to_stderr(), "tokenizing", total);
      bytes_total_ = total;
      return;  // no time has passed yet: the next call tells a speed
    }
    bytes_->advance(done - bytes_done_);
    bytes_done_ = done;
  }

  void started(const train::RunStart& start) override {
    finish_bytes();
    const auto& model = start.config.model;
    say("model      {} parameters: {} layers, width {}, {} heads, vocabulary {}",
        human_count(static_cast<double>(start.parameters)), model.layers, model.width, model.heads, model.vocabulary);
    say("data       {} tokens to train on, {} held out; tokenizer: {}",
        human_count(static_cast<double>(start.train_tokens)), human_count(static_cast<double>(start.validation_tokens)),
        start.tokenizer);
    say("device     {}, {}", start.device, kernels::name_of(start.config.numerics.numerics.compute));
    const auto& t = start.config.train;
    say("run        {} steps of {} sequences × {} tokens, in {}", t.steps, t.global_batch, t.sequence_length,
        start.out);
    if (start.first_step > 1) say("resumed    after step {}", start.first_step - 1);
    tokens_per_step_ = t.global_batch * t.sequence_length;
    progress_ = std::make_unique<TrainingProgress>(clock_, ProgressOutput::to_stderr(), start.first_step - 1, t.steps);
  }

  void stepped(const train::MetricsLine& line, int64_t) override {
    progress_->update(line.step, line.loss, tokens_per_step_, line.mfu);
  }

  void validated(const train::MetricsLine& line) override {
    say("step {:<6} held-out loss {:.4f}{}", line.step, *line.validation_loss,
        line.validation_bits_per_byte ? fmt::format(", {:.4f} bits per byte", *line.validation_bits_per_byte) : "");
  }

  void warned(const std::string& message) override { fmt::print(stderr, "troupe: warning: {}\n", message); }

  void ended(const train::RunEnd& end) override {
    finish_progress();
    if (end.interrupted) return;
    say("done       {} steps in {}, loss {:.4f}", end.steps, human_duration(end.seconds), end.loss);
    say("saved      {}", end.checkpoint);
  }

 private:
  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    if (terminal_) fmt::print(stderr, "\r\033[K");  // the progress line gives way
    fmt::print("{}\n", fmt::format(format, std::forward<Args>(args)...));
    std::fflush(stdout);
  }
  void finish_bytes() {
    if (bytes_) bytes_->finish();
    bytes_.reset();
    bytes_done_ = bytes_total_ = 0;
  }
  void finish_progress() {
    if (progress_) progress_->finish();
    progress_.reset();
  }

  const Clock& clock_;
  StopSignals signals_;
  bool told_ = false;
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  std::unique_ptr<ByteProgress> bytes_;
  int64_t bytes_done_ = 0, bytes_total_ = 0;
  int64_t tokens_per_step_ = 0;
  std::unique_ptr<TrainingProgress> progress_;
};

Status train_command(const Request& request) {
  if (request.ranks > 1 || request.processes > 1) {
    return usage_error("{} = {}: this build trains on one rank; leave it out or set 1",
                       request.ranks > 1 ? "--ranks" : "--processes", std::max(request.ranks, request.processes));
  }
  Config config = TROUPE_TRY(Config::load(request.config));
  for (const std::string& assignment : request.overrides) TROUPE_TRY(config.set(assignment));
  const auto device = kernels::make_cpu_device(threads_or_default(request.threads));
  train::RunRequest run;
  run.config_path = request.config;
  run.out = request.out.empty() ? "runs/" + std::filesystem::path(request.config).stem().string() : request.out;
  run.resume = request.resume;
  run.peak_flops = [&device](kernels::DType compute) {
    return kernels::cpu::measure_fma_peak(device->threads(), compute);
  };
  PosixFileSystem files;
  const SteadyClock clock;
  TerminalView view(clock);
  return train::run_training(config, run, *device, files, clock, view);
}

}  // namespace

void add_train_command(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("train", "Train the model that a config describes");
  auto request = std::make_shared<Request>();
  command->add_option("config", request->config, "a TOML file; launcher/configs/ has one for every use")->required();
  command->add_option("--set", request->overrides, "override a key of the config: --set train.steps=100")
      ->allow_extra_args(false);
  command->add_option("--out", request->out,
                      "folder for checkpoints, metrics and the loss curve (default: runs/NAME-OF-CONFIG)");
  command->add_flag("--resume", request->resume, "go on from the newest checkpoint in OUT; an empty OUT starts fresh");
  command->add_option("--ranks", request->ranks, "ranks, as threads of this process (only 1 yet)")
      ->check(CLI::PositiveNumber);
  command->add_option("--processes", request->processes, "ranks, as processes (only 1 yet)")
      ->check(CLI::PositiveNumber)
      ->excludes("--ranks");
  command->add_option("--threads", request->threads, "threads of each rank (default: all cores)")
      ->check(CLI::PositiveNumber);
  command->callback([&action, request] { action = [request] { return train_command(*request); }; });
}

}  // namespace troupe::launcher
