// The troupe program: parses the command line, runs one command, turns its outcome into an exit code.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "launcher/commands/command.h"

namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done, 1 failed, 2 bad command line or config, 3 missing part of the environment,\n"
    "4 damaged data or checkpoint, 75 interrupted cleanly (state saved: run the same command with --resume).\n"
    "Start with: troupe train launcher/configs/quickstart.toml --help";

int fail(const troupe::Error& error) {
  std::fflush(stdout);
  std::fprintf(stderr, "troupe: %s\n", error.message().c_str());
  return error.exit_code();
}

std::string commands_of(const CLI::App& app) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands({})) names += (names.empty() ? "" : ", ") + command->get_name();
  return names;
}

// What to say of a command line that could not be parsed: commands that do not exist come before all else.
troupe::Error usage_of(const CLI::App& app, int argc, char** argv, std::string_view what) {
  const CLI::App* command = &app;
  std::string name;  // "bench gemm "
  int at = 1;
  for (bool known = true; known && at < argc;) {
    known = false;
    for (const CLI::App* candidate : command->get_subcommands({})) {
      if (candidate->get_name() != argv[at]) continue;
      known = true;
      command = candidate;
      name += candidate->get_name() + " ";
      ++at;
      break;
    }
  }
  if (at < argc && argv[at][0] != '-' && !command->get_subcommands({}).empty())
    return troupe::usage_error("no command \"{}{}\"; there are: {}", name, argv[at], commands_of(*command));
  return troupe::usage_error("{} (see: troupe {}--help)", what, name);
}

int run(int argc, char** argv) {
  CLI::App app("Troupe trains language models and generates text from them.", "troupe");
  app.set_version_flag("--version", std::string("troupe ") + TROUPE_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);
  troupe::launcher::Action action;
  troupe::launcher::add_train_command(app, action);
  troupe::launcher::add_worker_command(app, action);
  troupe::launcher::add_plan_command(app, action);
  troupe::launcher::add_generate_command(app, action);
  troupe::launcher::add_tokenizer_command(app, action);
  troupe::launcher::add_bench_command(app, action);
  troupe::launcher::add_doctor_command(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    return fail(usage_of(app, argc, argv, error.what()));
  }
  const troupe::Status status = action();
  return status.ok() ? 0 : fail(status.error());
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is an error of the write, told like a full disk
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    return fail(troupe::failed("out of memory: use a smaller model, micro_batch or sequence_length"));
  } catch (const std::exception& error) {
    return fail(troupe::failed("internal error: {}", error.what()));
  }
}
