// troupe train: trains what a config describes, and shows how it goes.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <mutex>

#include "actors/train/head_actor.h"
#include "actors/train/mpirun_gang.h"
#include "actors/train/process_agent_actor.h"
#include "actors/train/run_trace.h"
#include "actors/train/thread_agent_actor.h"
#include "kernels/cpu/peak.h"
#include "launcher/commands/command.h"
#include "launcher/commands/common.h"
#include "launcher/commands/run_report.h"
#include "parallel/comm/mpi_session.h"
#include "parallel/model/model_options.h"
#include "runtime/actor/node_warnings.h"
#include "runtime/actor/threaded_node.h"
#include "runtime/actor/waiting.h"
#include "runtime/base/human_format.h"
#include "runtime/base/progress.h"
#include "runtime/base/signals.h"
#include "runtime/net/tcp.h"

namespace troupe::launcher {
namespace {

struct TrainRequest {
  std::string config;
  std::vector<std::string> overrides;
  std::string out, trace;
  bool resume = false;
  int ranks = 0, processes = 0;
  int threads = 0;
};

// What a run looks like from outside: lines on stdout, progress on stderr. Thread-safe.
class TerminalView final : public train::RunObserver {
 public:
  explicit TerminalView(const Clock& clock) : clock_(clock) {}

  void stopping(std::string_view signal) {
    const std::lock_guard lock(mutex_);
    finish_progress();
    say("{}: finishing the step and saving; a second Ctrl-C stops at once", signal);
  }

  void preparing(int64_t done, int64_t total) {
    const std::lock_guard lock(mutex_);
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
    const std::lock_guard lock(mutex_);
    finish_bytes();
    finish_progress();
    const auto& t = start.config.train;
    tokens_per_step_ = t.global_batch * t.sequence_length;
    if (!first_generation_) {
      say("generation {} goes on after step {}", start.generation, start.first_step - 1);
      return begin_progress(start);
    }
    first_generation_ = false;
    const auto& model = start.config.model;
    say("model      {} parameters: {} layers, width {}, {} heads, vocabulary {}",
        human_count(static_cast<double>(start.parameters)), model.layers, model.width, model.heads, model.vocabulary);
    say("data       {} tokens to train on, {} held out; tokenizer: {}",
        human_count(static_cast<double>(start.train_tokens)), human_count(static_cast<double>(start.validation_tokens)),
        start.tokenizer);
    say("device     {}, {}{}", start.device, kernels::name_of(start.config.numerics.numerics.compute),
        start.layout == "1 rank" ? std::string() : fmt::format("; {}", start.layout));
    say("run        {} steps of {} sequences × {} tokens, in {}", t.steps, t.global_batch, t.sequence_length,
        start.out);
    if (start.first_step > 1) say("resumed    after step {}", start.first_step - 1);
    begin_progress(start);
  }

  void stepped(const train::MetricsLine& line) override {
    const std::lock_guard lock(mutex_);
    if (progress_) progress_->update(line.step, line.loss, tokens_per_step_, line.mfu);
  }

  void validated(const train::MetricsLine& line) override {
    const std::lock_guard lock(mutex_);
    say("step {:<6} held-out loss {:.4f}{}", line.step, *line.validation_loss,
        line.validation_bits_per_byte ? fmt::format(", {:.4f} bits per byte", *line.validation_bits_per_byte) : "");
  }

  void warned(const std::string& message) override {
    const std::lock_guard lock(mutex_);
    warn(message);
  }

  void traced(const std::string& path, const Result<TraceSummary>& trace) {
    const std::lock_guard lock(mutex_);
    finish_progress();
    if (!trace.ok()) return warn(fmt::format("no trace was written: {}", trace.error().message()));
    say("trace      {} events in {}", trace->events, path);
    if (trace->dropped > 0) warn(fmt::format("{}: {} more events did not fit, or were lost", path, trace->dropped));
  }

  void ended(const train::RunEnd& end) override {
    const std::lock_guard lock(mutex_);
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
  void warn(const std::string& message) {
    finish_progress();
    fmt::print(stderr, "troupe: warning: {}\n", message);
  }
  void finish_bytes() {
    if (bytes_) bytes_->finish();
    bytes_.reset();
    bytes_done_ = bytes_total_ = 0;
  }
  void begin_progress(const train::RunStart& start) {
    progress_ = std::make_unique<TrainingProgress>(clock_, ProgressOutput::to_stderr(), start.first_step - 1,
                                                   start.config.train.steps);
  }
  void finish_progress() {
    if (progress_) progress_->finish();
    progress_.reset();
  }

  const Clock& clock_;
  std::mutex mutex_;  // what follows
  bool first_generation_ = true;
  const bool terminal_ = isatty(STDERR_FILENO) != 0;
  std::unique_ptr<ByteProgress> bytes_;
  int64_t bytes_done_ = 0, bytes_total_ = 0;
  int64_t tokens_per_step_ = 0;
  std::unique_ptr<TrainingProgress> progress_;
};

// Tells the head once that someone wants the run to end.
class StopWatcher final : public actor::Actor {
 public:
  StopWatcher(const StopSignals& signals, TerminalView& view, actor::Ref<train::HeadActor> head)
      : signals_(signals), view_(view), head_(std::move(head)) {}

  actor::Task<void> on_start() override {
    look();
    co_return;
  }
  void look() {
    if (signals_.stop_requested()) {
      view_.stopping(signals_.signal_name());
      (void)head_.try_tell<&train::HeadActor::stop>().ok();  // it has ended already
      return;
    }
    timer_ = later<&StopWatcher::look>(std::chrono::milliseconds(100));
  }

 private:
  const StopSignals& signals_;
  TerminalView& view_;
  actor::Ref<train::HeadActor> head_;
  actor::Timer timer_;
};

// The file that a run is traced into, and what the head itself adds to it.
struct Tracing {
  std::unique_ptr<TraceFile> file;
  std::chrono::nanoseconds origin{0};
  std::unique_ptr<ChromeTrace> head;
};

Result<Tracing> begin_trace(FileSystem& files, const std::string& path, const net::Peer& self) {
  Tracing tracing;
  if (path.empty()) return tracing;
  auto file = TraceFile::open(files, path);
  if (!file.ok()) return std::move(file).error().within("--trace");
  tracing.file = std::move(*file);
  tracing.origin = SteadyClock().now();
  tracing.head = train::trace_of_head(fmt::format("host {}, pid {}", self.host, self.pid), tracing.origin);
  tracing.head->deliver_to(train::into(*tracing.file));
  return tracing;
}

Status train_command(const TrainRequest& request, const StopSignals& signals) {
  Config config = TROUPE_TRY(Config::load(request.config));
  for (const std::string& assignment : request.overrides) TROUPE_TRY(config.set(assignment));
  const auto shared_setup = std::make_shared<train::RunSetup>(
      TROUPE_TRY(train::RunSetup::read(config, [&signals] { return signals.stop_requested(); })));
  train::RunSetup& setup = *shared_setup;
  std::optional<int> asked;
  if (request.ranks > 0) asked = request.ranks;
  if (request.processes > 0) asked = request.processes;
  const parallel::Layout layout = TROUPE_TRY(setup.layout(asked));
  const int ranks = layout.mesh.ranks();

  if (request.processes > 0 && !parallel::has_mpi()) {
    return environment_error(
        "--processes: this program was built without MPI (TROUPE_MPI); --ranks {} runs the same as threads",
        request.processes);
  }
  PosixFileSystem files;
  const SteadyClock clock;
  TerminalView view(clock);
  const std::string out =
      request.out.empty() ? "runs/" + std::filesystem::path(request.config).stem().string() : request.out;
  train::RunFolder folder = TROUPE_TRY(train::RunFolder::take(files, out, request.resume));
  net::LocalNode local(TROUPE_TRY(net::LocalNode::here("head", 0)), net::program_build(),
                       TROUPE_TRY(wire::random_token()));
  const net::Peer& self = local.self();
  const Tracing tracing = TROUPE_TRY(begin_trace(files, request.trace, self));
  const int threads = request.threads > 0 ? request.threads : std::max(1, threads_or_default(0) / ranks);
  double peak_flops = 0;
  {
    ThreadPool pool(threads * ranks);
    TROUPE_TRY(setup.open_data(out, files, pool, [&](int64_t done, int64_t total) {
      view.preparing(done, total);
      return !signals.stop_requested();
    }));
    peak_flops = kernels::cpu::measure_fma_peak(pool, setup.options.numerics.numerics.compute);
  }

  // The head writes files, and has a loop of its own: links have their heartbeats however long a disk takes. The cores
  // are the ranks': an idle loop sleeps at once.
  constexpr int kHeadLoop = 1;
  actor::NodeWarnings warnings(clock, [&view](const std::string& line) { view.warned(line); });
  actor::NodeOptions of_node{
      .name = self.name, .host = self.host, .pid = self.pid, .id = self.node, .trace = tracing.head.get()};
  warnings.hear(of_node);
  actor::ThreadedNode node(std::move(of_node), kHeadLoop + 1, {.spin = std::chrono::nanoseconds(0)});
  actor::Ref<train::AgentActor> agent;
  if (request.processes == 0) {
    const auto for_threads = node->spawn<train::ThreadAgentActor>(
        {}, train::ThreadGangOptions{threads, files, clock, shared_setup, tracing.file.get(), tracing.origin,
                                     setup.options.parallel.communicator()});
    agent = actor::Ref<train::AgentActor>(for_threads.endpoint());
  } else {
    net::Transport& tcp = node.add(std::make_unique<net::TcpTransport>(node.loop(), local, train::kRankLinks));
    warnings.hear(tcp);
    const std::string address = TROUPE_TRY(node->listen_blocking(tcp, ""));
    train::MpirunOptions options{std::filesystem::read_symlink("/proc/self/exe"),
                                 address,
                                 out + "/workers.log",
                                 threads,
                                 local,
                                 setup.options.parallel.communicator()};
    if (tracing.file) options.trace_origin = tracing.origin;
    const auto for_processes =
        node->spawn<train::ProcessAgentActor>({.reentrant = true, .registered = train::kAgentName},
                                              std::make_unique<train::MpirunLauncher>(std::move(options)), local);
    agent = actor::Ref<train::AgentActor>(for_processes.endpoint());
  }
  train::HeadContext context{
      .setup = setup,
      .folder = folder,
      .observer = view,
      .assignment = {.config = config.to_toml(), .config_path = request.config, .out = out, .peak_flops = peak_flops},
      .config_json = config.to_json(),
      .ranks = ranks,
      .layout = layout.to_string(),
      .resume = request.resume,
      .clock = clock,
      .trace = tracing.file.get(),
      .trace_origin = tracing.origin};
  const auto head = node->spawn<train::HeadActor>(
      {.loop = kHeadLoop, .reentrant = true, .registered = train::kHeadName}, std::move(context));
  node->spawn<StopWatcher>({.loop = kHeadLoop}, signals, view, head);
  std::optional<RunReporter> reporter(std::in_place, *node.operator->(), head);
  const auto end = head.ask_blocking<&train::HeadActor::run>(agent, std::chrono::hours(24 * 365));
  reporter.reset();
  const Status stopped = node->stop_blocking(std::chrono::seconds(30));
  if (tracing.file) {
    tracing.head->flush();
    view.traced(request.trace, tracing.file->finish());
  }
  if (!end.ok()) return Error(end.error());
  if (!stopped.ok()) return Error(stopped.error());
  if (!end->interrupted) return {};
  if (end->checkpoint.empty())
    return Error(ErrorKind::interrupted,
                 "stopped before the first step; there is nothing new to save; start again with --resume");
  return Error(ErrorKind::interrupted,
               fmt::format("stopped after step {} of {}, state saved in {}; go on with --resume", end->steps,
                           setup.options.train.steps, end->checkpoint));
}

}  // namespace

void add_train_command(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("train", "Train the model that a config describes");
  auto request = std::make_shared<TrainRequest>();
  command->add_option("config", request->config, "a TOML file, such as those in launcher/configs/")->required();
  command->add_option("--set", request->overrides, "override a key of the config: --set train.steps=100")
      ->allow_extra_args(false);
  command->add_option("--out", request->out,
                      "folder for checkpoints, metrics and the loss curve (default: runs/NAME-OF-CONFIG)");
  command->add_flag("--resume", request->resume, "go on from the newest checkpoint in OUT; an empty OUT starts fresh");
  command
      ->add_option("--ranks", request->ranks,
                   "ranks, as threads of this process: sets the data axis (default: the product of the axes)")
      ->check(CLI::PositiveNumber);
  command->add_option("--processes", request->processes, "the same, each rank a process of its own (through mpirun)")
      ->check(CLI::PositiveNumber)
      ->excludes("--ranks");
  command->add_option("--threads", request->threads, "threads of each rank (default: cores divided by ranks)")
      ->check(CLI::PositiveNumber);
  command->add_option("--trace", request->trace,
                      "file for a trace of steps, collectives and messages of all ranks (chrome://tracing, Perfetto)");
  command->footer(
      "While it runs: Ctrl-C (SIGINT), SIGTERM and SIGUSR1 finish the step, save and end with 75; SIGQUIT\n"
      "(Ctrl-\\) prints what head and ranks are doing and whom they wait for, and the run goes on.");
  command->callback([&action, request] {
    // They live as long as the action: until its outcome has been printed.
    const auto signals = std::make_shared<const StopSignals>();
    action = [request, signals] { return train_command(*request, *signals); };
  });
}

}  // namespace troupe::launcher
