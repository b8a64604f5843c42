// A trace as Chrome-trace JSON ("Trace Event Format", Google 2016): one complete event ("ph": "X") a line. A file
// whose writer was killed still opens: viewers accept a missing end.
#pragma once
#include <memory>
#include <string>

#include "runtime/base/result.h"
#include "runtime/base/trace.h"

namespace troupe {

class ChromeTrace final : public TraceSink {
 public:
  // `process`: how this process is called there, e.g. "rank 3"; `number` sorts it, and is unique among the files that
  // are looked at together. Errors: the file cannot be written.
  static Result<std::unique_ptr<ChromeTrace>> open(const std::string& path, const std::string& process, int64_t number);
  ~ChromeTrace() override;  // as finish(), without a word

  void span(const TraceSpan& span) override;
  // What a lane is called: "loop 0", "compute".
  void name_lane(int64_t lane, const std::string& name);
  // Writes what is buffered and ends the file. Errors: something could not be written, then or earlier.
  Status finish();

 private:
  struct State;
  explicit ChromeTrace(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace troupe
