// A trace as Chrome-trace JSON ("Trace Event Format", Google 2016): one file for all processes of a run. Each process,
// and each rank that is a thread, has a ChromeTrace, which turns what it is told into lines and hands these on in
// pieces, to the TraceFile or to the process that has it. Times are those of the steady clock since `origin`: the same
// for all processes of a host; for another host's, origin is that moment on its clock.
//
// What is kept in memory is bounded by a piece, and the file by its limit; what does not fit is counted.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "runtime/base/file.h"
#include "runtime/base/trace.h"

namespace troupe {

struct TracePiece {
  std::string lines;  // whole events, each with a comma and a line end
  int64_t lost = 0;   // events that were dropped before these
};

struct TraceProcess {
  int64_t number = 0;                  // of the process in the file, where it is sorted by it; not 0
  std::string name;                    // "rank 3"
  std::string label = {};              // "host gpu17, pid 411"
  std::chrono::nanoseconds origin{0};  // what is 0 in the file
};

class ChromeTrace final : public TraceSink {
 public:
  // False: it cannot be taken, and is lost. Any thread.
  using Take = std::function<bool(TracePiece piece)>;

  // What is told before `take` is known is kept, as far as it is not too much.
  explicit ChromeTrace(TraceProcess process, Take take = nullptr);
  ~ChromeTrace() override { flush(); }

  void deliver_to(Take take);
  void span(const TraceSpan& span) override;
  void sent(uint64_t trace, std::chrono::nanoseconds at, int64_t lane) override;
  void flush() override;
  // What a lane is called: "loop 0".
  void name_lane(int64_t lane, std::string_view name);

 private:
  double microseconds(std::chrono::nanoseconds time) const;
  void metadata(std::string_view what, int64_t lane, std::string_view key, std::string_view value);
  void add(std::string_view line, std::chrono::nanoseconds at);

  const TraceProcess process_;
  std::mutex mutex_;  // what follows
  Take take_;
  TracePiece piece_;
  int64_t events_ = 0;  // in the piece
  std::chrono::nanoseconds since_;
};

struct TraceSummary {
  int64_t events = 0;   // in the file
  int64_t dropped = 0;  // over its limit, or lost on their way to it
};

// The file appears whole, when it is finished.
class TraceFile {
 public:
  // Errors, naming the path: usage, or environment where the place is read-only or not ours.
  static Result<std::unique_ptr<TraceFile>> open(FileSystem& files, const std::string& path,
                                                 int64_t most_bytes = int64_t{512} << 20);
  // Any thread. What does not fit any more is counted.
  void append(const TracePiece& piece);
  // A mark across all lanes: something is missing from here on, and why.
  void note(std::chrono::nanoseconds since_origin, std::string_view what);
  // Errors: it could not be written, then or earlier; nothing is left of it. REQUIRES: once.
  Result<TraceSummary> finish();

 private:
  TraceFile(AtomicFile file, int64_t most_bytes);
  bool write(std::string_view text);

  const int64_t most_bytes_;
  std::mutex mutex_;  // what follows
  AtomicFile file_;
  bool finished_ = false;
  Status status_;
  int64_t bytes_ = 0;
  TraceSummary summary_;
};

}  // namespace troupe
