// troupe bench collectives: the all-reduce of f32 sums between ranks of this machine, as threads and as processes,
// beside MPI's own in the same processes. MPI is run under several of its settings, each in a run of mpirun of its
// own, and its best at each size is what counts. Our sends and receives between processes are MPI's messages: they are
// measured as the default has it (one copy, by the kernel) and with two copies.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>

#include "launcher/commands/bench.h"
#include "parallel/comm/mpi_session.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/process.h"

namespace troupe::launcher {
namespace {

using kernels::DType;
using kernels::Tensor;
using parallel::Communicator;

constexpr int64_t kSizes[] = {1 << 10, 32 << 10, 1 << 20, 16 << 20, 64 << 20};  // bytes
constexpr int kWorkerMinutes = 2;
constexpr const char* kOneCopy = "default";
constexpr const char* kTwoCopies = "two copies";

// Open MPI's settings for large all-reduces between processes of one host.
struct Setting {
  const char* name;
  std::vector<std::pair<std::string, std::string>> environment;
};
std::vector<Setting> settings() {
  const std::pair<std::string, std::string> two_copies{"OMPI_MCA_btl_vader_single_copy_mechanism", "none"};
  const std::pair<std::string, std::string> chosen{"OMPI_MCA_coll_tuned_use_dynamic_rules", "1"};
  const auto algorithm = [](const char* number) {
    return std::pair<std::string, std::string>{"OMPI_MCA_coll_tuned_allreduce_algorithm", number};
  };
  return {{kOneCopy, {}},
          {kTwoCopies, {two_copies}},
          {"two copies, recursive doubling", {two_copies, chosen, algorithm("3")}},
          {"two copies, ring", {two_copies, chosen, algorithm("4")}},
          {"two copies, segmented ring", {two_copies, chosen, algorithm("5")}},
          {"two copies, Rabenseifner", {two_copies, chosen, algorithm("6")}}};
}

// Medians in seconds, by size in bytes.
using Medians = std::map<int64_t, double>;

// All ranks call this together; `all_reduce` is repeated after barriers of ours.
Medians measure(Communicator& comm, const std::function<void(int64_t bytes)>& all_reduce) {
  Medians medians;
  for (const int64_t bytes : kSizes) {
    std::vector<double> seconds;
    const int64_t runs = std::clamp<int64_t>((256 << 20) / bytes, 15, 2000);
    for (int64_t run = -3; run < runs; ++run) {
      comm.barrier();
      const auto begin = std::chrono::steady_clock::now();
      all_reduce(bytes);
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
      if (run >= 0) seconds.push_back(taken.count());
    }
    std::ranges::nth_element(seconds, seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2));
    medians[bytes] = seconds[seconds.size() / 2];
  }
  return medians;
}

Medians measure_ours(Communicator& comm) {
  const auto device = kernels::make_cpu_device(1);
  const Tensor x = Tensor::zeros(*device, DType::f32, {kSizes[std::size(kSizes) - 1] / 4});
  return measure(comm, [&](int64_t bytes) { comm.all_reduce(x.slice(0, bytes / 4)).wait(); });
}

// From rank 0 to rank 1; the others only meet them.
Medians measure_send(Communicator& comm) {
  const auto device = kernels::make_cpu_device(1);
  const Tensor x = Tensor::zeros(*device, DType::f32, {kSizes[std::size(kSizes) - 1] / 4});
  return measure(comm, [&](int64_t bytes) {
    if (comm.rank() == 0) comm.send(x.slice(0, bytes / 4), 1).wait();
    if (comm.rank() == 1) comm.receive(x.slice(0, bytes / 4), 0).wait();
  });
}

Medians measure_threads(int ranks) {
  auto ends = parallel::make_thread_communicators(ranks);
  Medians of_rank_0;
  std::vector<std::thread> threads;
  for (auto& end : ends) {
    threads.emplace_back([&of_rank_0, comm = std::move(end)] {
      Medians medians = measure_ours(*comm);
      if (comm->rank() == 0) of_rank_0 = std::move(medians);
    });
  }
  for (auto& thread : threads) thread.join();
  return of_rank_0;
}

// One rank of a run under mpirun: leaves rank 1's figures in `file`, a line for each size: bytes, ours, MPI's, and a
// send of ours.
Status run_worker(const std::string& file) {
  auto session = TROUPE_TRY(parallel::MpiSession::open());
  std::string text;
  {
    const auto comm = session->world();
    const Medians ours = measure_ours(*comm);
    std::vector<float> in(static_cast<size_t>(kSizes[std::size(kSizes) - 1]) / 4), out(in.size());
    const Medians theirs = measure(*comm, [&](int64_t bytes) {
      const auto count = static_cast<size_t>(bytes) / 4;
      const Status status = session->mpi_all_reduce(std::span(in).first(count), std::span(out).first(count));
      TROUPE_CHECK(status.ok(), "{}", status.ok() ? "" : status.error().message());
    });
    const Medians sent = measure_send(*comm);  // rank 1 is done when the bytes are there
    for (const auto& [bytes, seconds] : ours)
      text += fmt::format("{} {} {} {}\n", bytes, seconds, theirs.at(bytes), sent.at(bytes));
  }
  if (session->rank() != 1) return {};
  PosixFileSystem files;
  return write_file_atomically(files, file, text);
}

struct Figure {
  double threads = 0, processes = 0;  // seconds
  double mpi = 0;
  std::string mpi_setting;
  double send_one_copy = 0, send_two_copies = 0;
};

Status run_processes(int ranks, std::map<int64_t, Figure>& figures) {
  std::error_code ignored;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", ignored).string();
  const std::string file = (std::filesystem::temp_directory_path() / fmt::format("troupe-bench-{}", getpid())).string();
  for (const Setting& setting : settings()) {
    ProcessOptions options;
    // A core for each rank where there are as many: two that share one would pass data through its cache.
    options.arguments = {"mpirun", "-n", std::to_string(ranks)};
    if (static_cast<unsigned>(ranks) <= std::thread::hardware_concurrency()) {
      options.arguments.insert(options.arguments.end(), {"--bind-to", "core"});
    } else {
      options.arguments.insert(options.arguments.end(), {"--oversubscribe"});
    }
    options.arguments.insert(options.arguments.end(), {program, "bench", "collectives", "--worker", file});
    options.environment = setting.environment;
    options.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT", "1");
    options.environment.emplace_back("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    options.death_signal = 15;
    auto mpirun = TROUPE_TRY(ChildProcess::start(options));
    const auto end = mpirun.wait(kWorkerMinutes * 60'000);
    if (!end || end->exit_code != 0 || end->signal != 0) {
      return failed("mpirun with Open MPI's setting \"{}\" {}", setting.name,
                    end ? end->describe() : fmt::format("took longer than {} minutes", kWorkerMinutes));
    }
    const std::string text = TROUPE_TRY(read_file(file));
    std::filesystem::remove(file, ignored);
    const char* at = text.c_str();
    for (size_t i = 0; i < std::size(kSizes); ++i) {
      char* rest = nullptr;
      Figure& figure = figures[std::strtoll(at, &rest, 10)];
      const double ours = std::strtod(rest, &rest), theirs = std::strtod(rest, &rest), sent = std::strtod(rest, &rest);
      at = rest;
      // Ours does not depend on MPI's settings: the median of its runs would do; the first, which MPI has no say in.
      if (figure.processes == 0) figure.processes = ours;
      if (setting.name == kOneCopy) figure.send_one_copy = sent;
      if (setting.name == kTwoCopies) figure.send_two_copies = sent;
      if (figure.mpi == 0 || theirs < figure.mpi) {
        figure.mpi = theirs;
        figure.mpi_setting = setting.name;
      }
    }
  }
  return {};
}

Status bench_collectives(int ranks, bool json) {
  std::map<int64_t, Figure> figures;
  for (const auto& [bytes, seconds] : measure_threads(ranks)) figures[bytes].threads = seconds;
  const Status processes = run_processes(ranks, figures);
  if (!processes.ok() && processes.error().kind() != ErrorKind::environment) return processes.error();
  JsonWriter out;
  out.begin_object().field("operation", "all_reduce").field("dtype", "f32").field("ranks", ranks);
  if (!processes.ok()) out.field("no_processes", processes.error().message());
  out.key("figures").begin_array();
  if (!json) {
    fmt::print("all_reduce of f32 sums, {} ranks; GB/s: bytes of the tensor by the median time\n", ranks);
    if (!processes.ok()) fmt::print("threads only: {}\n", processes.error().message());
    fmt::print("{:>10}{:>10}{:>11}{:>10}{:>9}{:>14}{:>10}  {}\n", "bytes", "threads", "processes", "Open MPI", "ratio",
               "send, 1 copy", "2 copies", "Open MPI's setting");
  }
  for (const auto& [bytes, f] : figures) {
    const auto rate = [&](double seconds) { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; };
    const double ratio = f.processes > 0 ? f.mpi / f.processes : 0;
    if (json) {
      out.begin_object()
          .field("bytes", bytes)
          .field("threads_seconds", f.threads)
          .field("processes_seconds", f.processes)
          .field("mpi_seconds", f.mpi)
          .field("mpi_setting", f.mpi_setting)
          .field("processes_over_mpi", ratio)
          .field("threads_over_mpi", f.threads > 0 ? f.mpi / f.threads : 0)
          .field("send_one_copy_seconds", f.send_one_copy)
          .field("send_two_copies_seconds", f.send_two_copies)
          .end_object();
    } else {
      fmt::print("{:>10}{:>10.2f}{:>11.2f}{:>10.2f}{:>8.2f}x{:>14.2f}{:>10.2f}  {}\n", bytes, rate(f.threads) / 1e9,
                 rate(f.processes) / 1e9, rate(f.mpi) / 1e9, ratio, rate(f.send_one_copy) / 1e9,
                 rate(f.send_two_copies) / 1e9, f.mpi_setting);
    }
  }
  out.end_array().end_object();
  if (json) fmt::print("{}\n", out.text());
  return {};
}

}  // namespace

void add_bench_collectives_command(CLI::App& bench, Action& action) {
  struct Options {
    int ranks = 2;
    bool json = false;
    std::string worker;
  };
  CLI::App* command =
      bench.add_subcommand("collectives", "All-reduce between ranks of this machine, beside Open MPI's");
  auto options = std::make_shared<Options>();
  command->add_option("--ranks", options->ranks, "ranks (default 2)")->check(CLI::Range(2, 64));
  command->add_flag("--json", options->json, "print JSON");
  command->add_option("--worker", options->worker)->group("");  // what mpirun starts; not for users
  command->callback([&action, options] {
    action = [o = *options] { return o.worker.empty() ? bench_collectives(o.ranks, o.json) : run_worker(o.worker); };
  });
}

}  // namespace troupe::launcher
