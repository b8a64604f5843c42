// troupe generate: text from a checkpoint, to stdout as it comes.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "actors/serve/generator.h"
#include "actors/train/run_setup.h"
#include "actors/train/trainer_state.h"
#include "checkpoint/checkpoint.h"
#include "launcher/commands/command.h"
#include "launcher/commands/common.h"
#include "runtime/base/json.h"
#include "runtime/base/signals.h"

namespace troupe::launcher {
namespace {

struct GenerateRequest {
  std::string checkpoint;
  std::string prompt;
  std::string compute;
  int threads = 0;
  bool json = false, quiet = false;
  serve::GenerateOptions options;
};

Status generate(const GenerateRequest& request) {
  const checkpoint::Checkpoint from =
      TROUPE_TRY(checkpoint::open_checkpoint(request.checkpoint, [](const Error& damaged) {
        fmt::print(stderr, "troupe: warning: {}; using an older checkpoint\n", damaged.message());
      }));
  Config config = TROUPE_TRY(Config::parse(from.manifest().config, from.folder() + "/manifest.json (config)"));
  if (!request.compute.empty()) TROUPE_TRY(config.set("numerics.compute=" + request.compute));
  train::RunConfig run = TROUPE_TRY(train::read_run_config(config));
  auto tokenizer = data::load_tokenizer(from.folder() + "/tokenizer");
  if (!tokenizer.ok())
    return damaged("{}: its tokenizer cannot be read: {}", from.folder(), tokenizer.error().message());
  if (!train::was_trained_with(from.manifest(), **tokenizer)) {
    return damaged("{}: the tokenizer in it ({}) is not the one the model was trained with", from.folder(),
                   (*tokenizer)->description());
  }
  TROUPE_TRY(train::complete_model(run, (*tokenizer)->vocabulary_size()));

  const auto device = kernels::make_cpu_device(threads_or_default(request.threads));
  parallel::ParameterSet parameters(*device, run.numerics.numerics, false);
  parallel::Decoder model(run.model, parameters);
  TROUPE_TRY(train::load_model(from, parameters));
  model.pack();

  const SteadyClock clock;
  const StopSignals signals;
  const serve::Generator generator(model, **tokenizer, clock);
  bool begun = request.json;  // the prompt is shown once it is known to be one
  const auto begin = [&] {
    if (!begun) fmt::print("{}", request.prompt);
    begun = true;
  };
  const serve::GenerateReport report =
      TROUPE_TRY(generator.generate(request.prompt, request.options, [&](std::string_view piece) {
        begin();
        if (!request.json) {
          std::fwrite(piece.data(), 1, piece.size(), stdout);
          std::fflush(stdout);
        }
        return !signals.stop_requested() && !std::ferror(stdout);
      }));
  const double prefill = static_cast<double>(report.prompt_tokens) / report.prefill_seconds;
  const double decode =
      report.generated_tokens > 1 ? static_cast<double>(report.generated_tokens - 1) / report.decode_seconds : 0;
  if (request.json) {
    JsonWriter out;
    out.begin_object()
        .field("prompt", request.prompt)
        .field("text", report.text)
        .field("finish_reason", serve::name_of(report.reason))
        .field("prompt_tokens", report.prompt_tokens)
        .field("generated_tokens", report.generated_tokens)
        .field("prefill_tokens_per_second", prefill)
        .field("decode_tokens_per_second", decode)
        .end_object();
    fmt::print("{}\n", out.text());
  } else {
    begin();
    fmt::print("\n");
    std::fflush(stdout);
    if (!request.quiet) {
      fmt::print(stderr, "prefill {} tokens, {:.0f} tokens/s; decode {} tokens, {:.0f} tokens/s; ended by {}\n",
                 report.prompt_tokens, prefill, report.generated_tokens, decode, serve::name_of(report.reason));
    }
  }
  if (report.reason == serve::FinishReason::cancelled) return Error(ErrorKind::interrupted, "stopped while generating");
  return {};
}

}  // namespace

void add_generate_command(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt with a trained model; text goes to stdout");
  auto request = std::make_shared<GenerateRequest>();
  serve::GenerateOptions& o = request->options;
  command->add_option("--checkpoint", request->checkpoint, "a run's OUT folder, or one step's folder in it")
      ->required();
  command->add_option("--prompt", request->prompt, "text to continue; \"\" starts a new document")->required();
  command->add_option("--max-tokens", o.max_tokens, "at most this many new tokens")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command->add_option("--temperature", o.sampling.temperature, "0 is greedy; higher is more varied")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  command->add_option("--top-k", o.sampling.top_k, "only the K most likely tokens; 0: all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--top-p", o.sampling.top_p, "only the most likely tokens that together reach P")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--min-p", o.sampling.min_p, "only tokens at least P times as likely as the likeliest")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  command
      ->add_option("--repetition-penalty", o.sampling.repetition_penalty, "above 1 discourages tokens that were there")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 100.0));
  command->add_option("--seed", o.sampling.seed, "the same seed gives the same text")->capture_default_str();
  command->add_option("--stop", o.stop, "end before this text (may be given several times)");
  command->add_option("--compute", request->compute, "arithmetic, instead of what the model was trained with")
      ->check(CLI::IsMember({"f32", "bf16"}));
  command->add_option("--threads", request->threads, "threads (default: all cores)")->check(CLI::PositiveNumber);
  command->add_flag("--json", request->json, "print one JSON object when done");
  command->add_flag("--quiet", request->quiet, "do not print the speeds");
  command->callback([&action, request] { action = [request] { return generate(*request); }; });
}

}  // namespace troupe::launcher
