// troupe bench NAME: measurements of the parts, each in its own file.
#include <CLI/CLI.hpp>

#include "launcher/commands/bench.h"
#include "launcher/commands/bench_gemm.h"
#include "launcher/commands/command.h"

namespace troupe::launcher {

void add_bench_command(CLI::App& app, Action& action) {
  CLI::App* bench = app.add_subcommand("bench", "Measure the speed of a part on this machine");
  bench->require_subcommand(1);
  add_bench_gemm_command(*bench, action);
  add_bench_attention_command(*bench, action);
  add_bench_actors_command(*bench, action);
  add_bench_collectives_command(*bench, action);
  add_bench_train_command(*bench, action);
  add_bench_generate_command(*bench, action);
}

}  // namespace troupe::launcher
