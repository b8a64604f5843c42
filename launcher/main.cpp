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

int run(int argc, char** argv) {
  CLI::App app("Troupe trains language models and generates text from them.", "troupe");
  app.set_version_flag("--version", std::string("troupe ") + TROUPE_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);
  troupe::launcher::Action action;
  troupe::launcher::add_train_command(app, action);
  troupe::launcher::add_generate_command(app, action);
  troupe::launcher::add_tokenizer_command(app, action);
  troupe::launcher::add_bench_command(app, action);
  troupe::launcher::add_doctor_command(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {  // --help, --version
    return app.exit(done);
  } catch (const CLI::ParseError& error) {
    const CLI::App* command = nullptr;
    for (const CLI::App* candidate : app.get_subcommands({})) {
      if (argc > 1 && candidate->get_name() == argv[1]) command = candidate;
    }
    if (argc > 1 && command == nullptr && argv[1][0] != '-') {
      return fail(troupe::usage_error("no command \"{}\"; there are: {}", argv[1], commands_of(app)));
    }
    return fail(
        troupe::usage_error("{} (see: troupe {}--help)", error.what(), command ? command->get_name() + " " : ""));
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
