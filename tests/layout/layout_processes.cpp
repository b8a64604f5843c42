// Layouts on real processes: the ranks that mpirun has started are those of drawn cases; rank 0 compares what they
// compute with what one rank does.
//
//   mpirun -n RANKS layout_processes [--cases N] [--seed S]     of the cases from seed S on, N that have so many ranks
#include <CLI/CLI.hpp>
#include <cstdlib>

#include "parallel/comm/mpi_session.h"
#include "tests/layout/run_case.h"

namespace troupe::layout {
namespace {

// Whether all of them are as one rank's.
bool run(parallel::MpiSession& mpi, uint64_t seed, uint64_t cases) {
  bool same = true;
  for (uint64_t tried = 0; tried < cases; ++seed) {
    const Case c = draw_case(seed);
    if (c.mesh.ranks() != mpi.size()) continue;
    ++tried;
    const auto world = mpi.world("world", {.deadline = std::chrono::seconds(60)});
    const Outcome outcome = run_in_world(c, *world);
    if (mpi.rank() > 0) continue;
    const std::string difference = compare(outcome, run_on_one_rank(c), c.compute);
    fmt::print("seed {} on {} processes: {}\n  {}\n", seed, mpi.size(), difference.empty() ? "as one rank" : difference,
               c.to_string());
    same = same && difference.empty();
  }
  return same;
}

}  // namespace
}  // namespace troupe::layout

int main(int argc, char** argv) {
  CLI::App app("layouts on processes");
  uint64_t seed = 1, cases = 3;
  app.add_option("--cases", cases);
  app.add_option("--seed", seed);
  CLI11_PARSE(app, argc, argv);
  auto session = troupe::parallel::MpiSession::open();
  if (!session.ok()) {
    fmt::print(stderr, "{}\n", session.error().message());
    return 3;
  }
  try {
    return troupe::layout::run(**session, seed, cases) ? 0 : 1;
  } catch (const std::exception& e) {
    fmt::print(stderr, "rank {}: {}\n", (*session)->rank(), e.what());
    std::_Exit(1);
  }
}
