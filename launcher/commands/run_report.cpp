#include "launcher/commands/run_report.h"

#include <cstdio>

#include "runtime/actor/mesh_ref.h"
#include "runtime/actor/node.h"

namespace troupe::launcher {
namespace {

using actor::Ref;
using actor::Task;
using train::TrainerActor;

// Asks all ranks at once.
class RankReports final : public actor::Actor {
 public:
  Task<std::vector<Result<std::string>>> ask(std::vector<Ref<TrainerActor>> ranks) {
    co_return co_await actor::MeshRef(std::move(ranks)).ask<&TrainerActor::report>(kReportPatience);
  }
};

// Under its title, each line of the text set in.
std::string paragraph(const std::string& title, std::string_view text) {
  std::string lines = title + "\n";
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) lines += fmt::format("  {}\n", text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// "rank 1 (node trainer-1, host a, pid 411)"; ranks that are threads of the head need no such address.
std::string name_of(size_t rank, const Ref<TrainerActor>& ref, const std::vector<net::Peer>& peers) {
  for (const net::Peer& peer : peers) {
    if (peer.node == ref.endpoint()->node())
      return fmt::format("rank {} (node {}, host {}, pid {})", rank, peer.name, peer.host, peer.pid);
  }
  return fmt::format("rank {}", rank);
}

}  // namespace

std::string report_of_run(actor::Node& node, const Ref<train::HeadActor>& head) {
  const actor::NodeReport own = node.report_blocking(kReportPatience);
  std::string text = paragraph("head (" + own.where + ")", own.text());
  const auto ranks = head.ask_blocking<&train::HeadActor::ranks>(kReportPatience);
  if (!ranks.ok()) return text + ranks.error().message() + "\n";
  if (ranks->empty()) return text + "no ranks: a generation is starting or ending\n";
  const auto asker = node.spawn<RankReports>({.name = "report"});
  const auto reports = asker.ask_blocking<&RankReports::ask>(*ranks, 2 * kReportPatience);
  asker.stop("the report is made");
  if (!reports.ok()) return text + reports.error().message() + "\n";
  const std::vector<net::Peer> peers = node.peers();
  for (size_t rank = 0; rank < reports->size(); ++rank) {
    const Result<std::string>& report = (*reports)[rank];
    text += paragraph(name_of(rank, (*ranks)[rank], peers), report.ok() ? *report : report.error().message());
  }
  return text;
}

RunReporter::RunReporter(actor::Node& node, Ref<train::HeadActor> head)
    : thread_([this, &node, head = std::move(head)] {
        while (signal_.wait()) {
          const std::string text = report_of_run(node, head);
          std::fputs(("troupe: report\n" + text + "troupe: end of report\n").c_str(), stderr);
        }
      }) {}

RunReporter::~RunReporter() {
  signal_.release();
  thread_.join();
}

}  // namespace troupe::launcher
