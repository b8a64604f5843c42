#include <CLI/CLI.hpp>
#include <cstdio>

#include "launcher/commands/bench.h"
#include "launcher/commands/measure_actors.h"
#include "runtime/base/json.h"

namespace troupe::launcher {
namespace {

Status bench_actors(const ActorMeasureOptions& measure, bool json) {
  JsonWriter out;
  out.begin_object().key("figures").begin_array();
  if (!json) fmt::print("{:<48}{:>14}{:>14}{:>12}  {}\n", "", "median", "best", "goal", "unit");
  for (const ActorFigure& f : measure_local_actors(measure)) {
    if (json) {
      out.begin_object().field("name", f.name).field("unit", f.unit).field("median", f.median).field("best", f.best);
      if (f.goal > 0) out.field("goal", f.goal);
      out.field("repetitions", f.repetitions).end_object();
      continue;
    }
    fmt::print("{:<48}{:>14.4g}{:>14.4g}{:>12}  {}\n", f.name, f.median, f.best,
               f.goal > 0 ? fmt::format("{:g}", f.goal) : "", f.unit);
    std::fflush(stdout);
  }
  out.end_array().end_object();
  if (json) fmt::print("{}\n", out.text());
  return {};
}

}  // namespace

void add_bench_actors_command(CLI::App& bench, Action& action) {
  struct Options {
    ActorMeasureOptions measure;
    bool json = false;
  };
  CLI::App* command = bench.add_subcommand("actors", "Messages between actors: one thread, two threads, many ranks");
  auto options = std::make_shared<Options>();
  command->add_option("--repetitions", options->measure.repetitions, "repetitions of each figure")
      ->check(CLI::Range(1, 1000));
  command->add_option("--scale", options->measure.scale, "number of messages, relative to the usual one")
      ->check(CLI::Range(0.001, 1000.0));
  command->add_flag("--json", options->json, "print JSON");
  command->callback([&action, options] { action = [o = *options] { return bench_actors(o.measure, o.json); }; });
}

}  // namespace troupe::launcher
