// A command of the program: add_X_command() describes its options to CLI11 and, when it is the one that
// was typed, leaves in `action` what is to be done.
#pragma once
#include <functional>

#include "runtime/base/result.h"

namespace CLI {
class App;
}

namespace troupe::launcher {

// The error's kind is the exit code; main prints its one line.
using Action = std::function<Status()>;

void add_train_command(CLI::App& app, Action& action);
void add_worker_command(CLI::App& app, Action& action);
void add_plan_command(CLI::App& app, Action& action);
void add_generate_command(CLI::App& app, Action& action);
void add_tokenizer_command(CLI::App& app, Action& action);
void add_bench_command(CLI::App& app, Action& action);
void add_doctor_command(CLI::App& app, Action& action);

}  // namespace troupe::launcher
