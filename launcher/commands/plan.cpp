// troupe plan: what a training run would take on a number of devices, in memory, traffic and time.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "actors/data/training_data.h"
#include "actors/train/run_config.h"
#include "launcher/commands/command.h"
#include "launcher/commands/plan_report.h"
#include "launcher/commands/plan_timeline.h"
#include "parallel/mesh/layout_options.h"
#include "runtime/base/file.h"

namespace troupe::launcher {
namespace {

struct PlanRequest {
  std::string config;
  std::vector<std::string> overrides;
  int devices = 0;
  std::string device = "h100";
  double memory_gib = 0;
  std::string timeline;  // where its picture goes; "": nowhere
  bool search = false, json = false;
  int top = 8;
};

// What a plan needs of a config.
struct RunOptions {
  train::RunConfig run;
  parallel::LayoutOptions layout;
};

// Reads the whole of it, and completes the model. The vocabulary may be known without the tokenizer, whose files may be
// elsewhere.
Result<RunOptions> read_options(Config& config) {
  RunOptions options;
  train::RunConfig& run = options.run;
  run.model = TROUPE_TRY(parallel::read_model_options(config));
  run.numerics = parallel::read_numerics_options(config);
  options.layout = parallel::read_layout_options(config);
  // Nothing is read of the data but a vocabulary, so a config may leave them out.
  const ConfigSection data = config.section("data");
  if (run.model.vocabulary == 0 || data.has("train") || data.has("mixture")) run.data = data::read_data_options(config);
  else config.ignore("data");
  run.train = train::read_train_options(config);
  run.checkpoint = train::read_checkpoint_options(config);
  run.metrics = train::read_metrics_options(config);
  TROUPE_TRY(config.finish());
  int64_t tokens = 0;
  if (run.model.vocabulary == 0) {
    auto tokenizer = data::open_tokenizer(run.data);
    if (!tokenizer.ok()) {
      return usage_error("model.vocabulary is not set, and the tokenizer that would tell it cannot be read: {}",
                         tokenizer.error().message());
    }
    tokens = (*tokenizer)->vocabulary_size();
  }
  TROUPE_TRY(train::complete_model(run, tokens));
  return options;
}

// What the config says stays; what it leaves out is chosen. Axes that it leaves out are 1 unless they are searched,
// too.
Result<parallel::PlanChoices> choices_of(Config& config, const RunOptions& options, const PlanRequest& request) {
  const auto given = [&](const char* section, const char* key) { return config.section(section).has(key); };
  const parallel::LayoutOptions& o = options.layout;
  const train::RunConfig& run = options.run;
  parallel::PlanChoices choices;
  choices.ranks = request.devices;
  choices.expert_tensor = o.expert_tensor.value_or(1);
  if (given("parallel", "zero")) choices.zero = o.zero;
  if (given("parallel", "virtual_stages")) choices.virtual_stages = o.virtual_stages;
  choices.schedule = o.schedule;
  if (run.train.micro_batch > 0) choices.micro_batch = run.train.micro_batch;
  if (!request.search || given("train", "recompute")) choices.recompute = run.train.recompute;
  if (request.search) {
    const auto fix = [&](const char* key, std::optional<int> size, std::optional<int>& to) {
      if (given("parallel", key)) to = size;  // "auto" is open
    };
    fix("pipeline", o.pipeline, choices.pipeline);
    fix("data", o.data, choices.data);
    fix("context", o.context, choices.context);
    fix("tensor", o.tensor, choices.tensor);
    fix("expert", o.expert, choices.expert);
    return choices;
  }
  const parallel::Layout layout = TROUPE_TRY(parallel::resolve_layout(o, request.devices, run.model));
  choices.pipeline = layout.mesh.pipeline;
  choices.data = layout.mesh.data;
  choices.context = layout.mesh.context;
  choices.tensor = layout.mesh.tensor;
  choices.expert = layout.mesh.expert;
  choices.expert_tensor = layout.mesh.expert_tensor;
  if (!choices.zero) choices.zero = layout.mesh.data * layout.mesh.context > 1 ? 1 : 0;
  return choices;
}

// The rule that the least demanding of the layouts that are left to choose breaks, if it breaks one.
Status check_least(const parallel::PlanTask& task, const parallel::PlanChoices& c) {
  parallel::Layout layout;
  layout.mesh = {.pipeline = c.pipeline.value_or(1),
                 .context = c.context.value_or(1),
                 .tensor = c.tensor.value_or(1),
                 .expert = c.expert.value_or(1),
                 .expert_tensor = c.expert_tensor};
  layout.mesh.data = c.data.value_or(std::max(1, c.ranks / layout.mesh.ranks()));
  const bool several = c.virtual_stages.value_or(1) > 1;
  layout.schedule = c.schedule.value_or(several ? parallel::Schedule::interleaved : parallel::Schedule::one_f_one_b);
  layout.virtual_stages = c.virtual_stages.value_or(1);
  return parallel::check_layout(task.model, layout,
                                {task.global_batch, task.sequence_length, c.micro_batch.value_or(1)});
}

Status plan(const PlanRequest& request) {
  Config config = TROUPE_TRY(Config::load(request.config));
  for (const std::string& assignment : request.overrides) TROUPE_TRY(config.set(assignment));
  auto device = parallel::device_named(request.device);
  if (!device.ok()) return std::move(device).error().within("--device");
  if (device->name == "cpu") {  // ranks share this machine's memory
    const double bytes = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
    device->memory_bytes = bytes / request.devices;
  }
  if (request.memory_gib > 0) device->memory_bytes = request.memory_gib * (1 << 30);
  const RunOptions options = TROUPE_TRY(read_options(config));
  const train::RunConfig& run = options.run;
  parallel::PlanChoices choices = TROUPE_TRY(choices_of(config, options, request));
  const parallel::PlanTask task{run.model, run.numerics.numerics, *device, run.train.global_batch,
                                run.train.sequence_length};
  if (!request.search) TROUPE_TRY(check_least(task, choices));
  parallel::PlanSearch found = parallel::search_plans(task, choices, static_cast<size_t>(request.top));
  if (found.valid == 0) {
    TROUPE_TRY(check_least(task, choices));
    return usage_error(
        "no layout of {} devices keeps the rules with train.global_batch = {} and the keys that [parallel] "
        "sets; leave some of them out, or take another number of devices",
        choices.ranks, task.global_batch);
  }
  if (found.best.empty() && request.search) {
    const parallel::Plan& least = *found.smallest;
    return failed(
        "none of {} layouts of {} devices fits into {:.1f} GiB each; the smallest takes {:.1f} GiB: {}; take "
        "more devices, or a smaller train.global_batch or train.sequence_length",
        found.valid, choices.ranks, device->memory_bytes / (1 << 30),
        static_cast<double>(least.memory.total()) / (1 << 30), least.layout.to_string());
  }
  PlanReport report{request.config, task, found, {}};
  if (found.best.empty()) {
    // Shown is what comes nearest with nothing given up; and what fits with less memory for more time, if the config
    // leaves that open.
    parallel::PlanChoices smaller = choices;
    if (!choices.micro_batch) choices.micro_batch = 1;
    found = parallel::search_plans(task, choices, 1);
    if (!config.section("parallel").has("zero")) smaller.zero.reset();
    if (!config.section("train").has("recompute")) smaller.recompute.reset();
    const parallel::PlanSearch fitting = parallel::search_plans(task, smaller, 1);
    if (!fitting.best.empty()) report.smaller = fitting.best.front();
  }
  if (!request.timeline.empty()) {
    PosixFileSystem files;
    TROUPE_TRY(write_file_atomically(files, request.timeline, draw_plan(task, report.chosen())));
  }
  if (request.json) fmt::print("{}\n", report.json(request.search));
  else fmt::print("{}", report.text(request.search));
  return {};
}

}  // namespace

void add_plan_command(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("plan", "Show what training would take on so many GPUs: memory, traffic, time");
  auto request = std::make_shared<PlanRequest>();
  command->add_option("config", request->config, "a TOML file, such as those in launcher/configs/")->required();
  command->add_option("--gpus", request->devices, "how many devices, one rank each")
      ->required()
      ->check(CLI::PositiveNumber);
  command->add_option("--device", request->device, "what they are: h100, h200 or cpu (a core of this machine)")
      ->capture_default_str();
  command->add_option("--set", request->overrides, "override a key of the config: --set parallel.tensor=8")
      ->allow_extra_args(false);
  command->add_flag("--search", request->search, "try all layouts that the config leaves open, and list the fastest");
  command->add_option("--top", request->top, "how many layouts --search lists")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--memory", request->memory_gib, "GiB of memory that each device has (default: the device's)")
      ->check(CLI::PositiveNumber);
  command->add_option("--timeline", request->timeline, "draw what each stage does in a step into this SVG file");
  command->add_flag("--json", request->json, "print JSON");
  command->footer(
      "What the config sets stays as it is. Of what it leaves out, parallel.schedule, virtual_stages and\n"
      "train.micro_batch are chosen: the fastest that fits. Axes are 1, data takes the rest of the devices, zero is "
      "1,\n"
      "and nothing is recomputed; with --search, these are chosen, too. Nothing is trained, and no GPU is needed.");
  command->callback([&action, request] { action = [request] { return plan(*request); }; });
}

}  // namespace troupe::launcher
