// What a run is doing, for a person who sends it SIGQUIT because it does not go on: head and all ranks, who waits for
// whom and since when. Printed on stderr; the run goes on.
#pragma once
#include <thread>

#include "actors/train/head_actor.h"
#include "runtime/base/signals.h"

namespace troupe::launcher {

// Waits for one answer at most this long; the whole report takes no longer than a few of these.
constexpr std::chrono::seconds kReportPatience{1};

// Blocks; on no loop's thread.
std::string report_of_run(actor::Node& node, const actor::Ref<train::HeadActor>& head);

// Prints it, while it lives, whenever SIGQUIT comes.
class RunReporter {
 public:
  // Both outlive it.
  RunReporter(actor::Node& node, actor::Ref<train::HeadActor> head);
  ~RunReporter();

 private:
  ReportSignal signal_;
  std::thread thread_;
};

}  // namespace troupe::launcher
