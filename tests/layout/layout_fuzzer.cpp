// Draws layouts until one computes something else than one rank does.
//
//   layout_fuzzer [--cases N] [--seed S] [--compute f64|f32|bf16]     N cases from seed S on
//   layout_fuzzer --case 'key=value …'                                one, as a failure prints it
//   layout_fuzzer --where 'key>value …' --count [--deadline SECONDS]  how many of N cases that fit fail
//     --agreeing                                                      and which do not
//   layout_fuzzer --where 'key>value …' --list                        what they are
#include <CLI/CLI.hpp>

#include "tests/layout/fuzz.h"

namespace troupe::layout {
namespace {

struct Arguments {
  uint64_t cases = 200, seed = 1;
  kernels::DType compute = kernels::DType::f64;
  std::string text, where;
  bool count = false, list = false, agreeing = false;
  int64_t deadline_s = 60;  // of a collective
};

int try_one(const std::string& text) {
  const auto parsed = parse_case(text);
  const std::string failure = parsed.ok() ? try_case(*parsed) : parsed.error().message();
  fmt::print("{}\n", failure.empty() ? "as one rank" : failure);
  return failure.empty() ? 0 : 1;
}

int run(const Arguments& arguments) {
  if (!arguments.text.empty()) return try_one(arguments.text);
  uint64_t tried = 0, failed = 0;
  for (uint64_t seed = arguments.seed; tried < arguments.cases; ++seed) {
    const Case c = draw_case(seed, arguments.compute);
    const Result<bool> fitting = fits(c, arguments.where);
    if (!fitting.ok()) {
      fmt::print("{}\n", fitting.error().message());
      return 2;
    }
    if (!*fitting) continue;
    ++tried;
    if (arguments.list) {
      fmt::print("{}: {}\n", seed, c.to_string());
    } else if (arguments.count) {
      const bool differs = !try_case(c, std::chrono::seconds(arguments.deadline_s)).empty();
      failed += differs ? 1 : 0;
      if (!differs && arguments.agreeing) fmt::print("{}: {}\n", seed, c.to_string());
    } else if (const std::string failure = try_seed(seed, arguments.compute); !failure.empty()) {
      fmt::print("{}\n", failure);
      return 1;
    }
  }
  if (arguments.count) fmt::print("{} of {} layouts differ from one rank\n", failed, tried);
  else if (!arguments.list) fmt::print("{} layouts as one rank\n", tried);
  return 0;
}

}  // namespace
}  // namespace troupe::layout

int main(int argc, char** argv) {
  using troupe::kernels::DType;
  CLI::App app("layouts against one rank");
  troupe::layout::Arguments arguments;
  const std::map<std::string, DType> names{{"f64", DType::f64}, {"f32", DType::f32}, {"bf16", DType::bf16}};
  app.add_option("--cases", arguments.cases);
  app.add_option("--seed", arguments.seed);
  app.add_option("--compute", arguments.compute)->transform(CLI::CheckedTransformer(names));
  app.add_option("--case", arguments.text);
  app.add_option("--where", arguments.where);
  app.add_flag("--count", arguments.count);
  app.add_option("--deadline", arguments.deadline_s);
  app.add_flag("--agreeing", arguments.agreeing);
  app.add_flag("--list", arguments.list);
  CLI11_PARSE(app, argc, argv);
  return troupe::layout::run(arguments);
}
