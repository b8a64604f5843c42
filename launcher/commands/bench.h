// The parts of troupe bench, each in its own file.
#pragma once
#include "launcher/commands/command.h"

namespace troupe::launcher {

void add_bench_actors_command(CLI::App& bench, Action& action);
void add_bench_attention_command(CLI::App& bench, Action& action);
void add_bench_collectives_command(CLI::App& bench, Action& action);
void add_bench_train_command(CLI::App& bench, Action& action);
void add_bench_generate_command(CLI::App& bench, Action& action);

}  // namespace troupe::launcher
