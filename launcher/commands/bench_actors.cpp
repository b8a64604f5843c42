#include <CLI/CLI.hpp>

#include "launcher/commands/bench.h"
#include "launcher/commands/measure_actors.h"
#include "launcher/commands/measure_links.h"
#include "launcher/commands/measure_mesh.h"
#include "runtime/base/json.h"

namespace troupe::launcher {
namespace {

struct Options {
  int repetitions = 7;
  double scale = 1;
  bool json = false;
};

Status bench_actors(const Options& options) {
  Figures figures(options.repetitions, !options.json);
  TROUPE_TRY(measure_local_actors(options.scale, figures));
  const std::vector<std::string> peer = {"bench", "peer"};
  TROUPE_TRY(measure_links(options.scale, peer, figures));
  TROUPE_TRY(measure_mesh(options.scale, peer, figures));
  if (!options.json) return {};
  JsonWriter out;
  out.begin_object();
  figures.write(out);
  fmt::print("{}\n", out.end_object().text());
  return {};
}

}  // namespace

void add_bench_actors_command(CLI::App& bench, Action& action) {
  CLI::App* command =
      bench.add_subcommand("actors", "Messages between actors: one thread, two threads, many ranks, processes");
  auto options = std::make_shared<Options>();
  command->add_option("--repetitions", options->repetitions, "repetitions of each figure")->check(CLI::Range(1, 1000));
  command->add_option("--scale", options->scale, "number of messages, relative to the usual one")
      ->check(CLI::Range(0.001, 1000.0));
  command->add_flag("--json", options->json, "print JSON");
  command->callback([&action, options] { action = [o = *options] { return bench_actors(o); }; });
  // The second process of bench actors; not for people.
  bench.add_subcommand("peer", "")->group("")->callback([&action] { action = serve_link_peer; });
}

}  // namespace troupe::launcher
