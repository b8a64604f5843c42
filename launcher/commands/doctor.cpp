// troupe doctor: what this machine has, and what is missing for what.
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "kernels/tensor/device.h"
#include "launcher/commands/command.h"
#include "runtime/base/json.h"

namespace troupe::launcher {
namespace {

struct Finding {
  std::string name;
  bool ok;
  std::string detail;
  std::string needed_for;  // told when it is not ok
};

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

double gibibytes(double bytes) { return bytes / (1 << 30); }

bool in_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  for (std::string_view rest = path ? path : ""; !rest.empty();) {
    const size_t colon = rest.find(':');
    std::error_code ignored;
    if (std::filesystem::exists(std::filesystem::path(rest.substr(0, colon)) / program, ignored)) return true;
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  return false;
}

std::vector<Finding> examine() {
  std::vector<Finding> findings;
  utsname system{};
  uname(&system);
  findings.push_back({"system", true, fmt::format("{} {} {}", system.sysname, system.release, system.machine), ""});
  const unsigned cores = std::thread::hardware_concurrency();
  findings.push_back({"processor", true, fmt::format("{}, {} cores", cpu_model(), cores), ""});
  const auto device = kernels::make_cpu_device(1);
  findings.push_back({"kernels", true, device->description(), ""});
  const double total = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  const double free = static_cast<double>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  findings.push_back(
      {"memory", true, fmt::format("{:.1f} GiB, {:.1f} GiB free", gibibytes(total), gibibytes(free)), ""});
  struct statvfs disk{};
  if (statvfs(".", &disk) == 0) {
    const double left = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
    findings.push_back({"disk here", left > 1e9, fmt::format("{:.1f} GiB free", gibibytes(left)),
                        "checkpoints: 12 bytes a parameter each"});
  }
  const bool writable = access(".", W_OK) == 0;
  findings.push_back({"this folder", writable, writable ? "writable" : "read-only", "an --out folder below it"});
  const bool slurm = in_path("sbatch");
  findings.push_back(
      {"Slurm", slurm, slurm ? "sbatch found" : "no sbatch in PATH", "runs on a cluster; not for one machine"});
  const bool gpu = std::filesystem::exists("/dev/nvidiactl");
  findings.push_back({"NVIDIA GPU", gpu, gpu ? "driver found; this build computes on the CPU" : "no driver",
                      "GPU training; not for the CPU"});
  return findings;
}

Status doctor(bool json) {
  const std::vector<Finding> findings = examine();
  if (json) {
    JsonWriter out(2);
    out.begin_array();
    for (const Finding& f : findings) {
      out.begin_object()
          .field("name", f.name)
          .field("ok", f.ok)
          .field("detail", f.detail)
          .field("needed_for", f.needed_for)
          .end_object();
    }
    out.end_array();
    fmt::print("{}\n", out.text());
    return {};
  }
  for (const Finding& f : findings) {
    fmt::print("{:12} {} {}{}\n", f.name, f.ok ? "  ok    " : " missing", f.detail,
               f.ok || f.needed_for.empty() ? "" : fmt::format(" (needed for: {})", f.needed_for));
  }
  return {};
}

}  // namespace

void add_doctor_command(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("doctor", "Show what this machine has, and what is missing for what");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "print JSON");
  command->callback([&action, json] { action = [json] { return doctor(*json); }; });
}

}  // namespace troupe::launcher
