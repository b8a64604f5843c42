#include "runtime/base/chrome_trace.h"

#include <algorithm>
#include <filesystem>

#include "runtime/base/json.h"

namespace troupe {
namespace {

using namespace std::chrono_literals;

// A piece is handed on when it is this large or this old: who is killed takes no more with it.
constexpr size_t kPieceBytes = 64 << 10;
constexpr auto kPieceAge = 500ms;
constexpr size_t kMostBytes = 1 << 20;  // while nobody takes them

int64_t events_in(std::string_view lines) { return std::ranges::count(lines, '\n'); }

JsonWriter event(std::string_view phase, std::string_view name, int64_t process, int64_t lane) {
  JsonWriter out;
  out.begin_object().field("ph", phase).field("name", name).field("pid", process).field("tid", lane);
  return out;
}

}  // namespace

ChromeTrace::ChromeTrace(TraceProcess process, Take take)
    : process_(std::move(process)), take_(std::move(take)), since_(process_.origin) {
  metadata("process_name", 0, "name", process_.name);
  if (!process_.label.empty()) metadata("process_labels", 0, "labels", process_.label);
}

void ChromeTrace::deliver_to(Take take) {
  const std::lock_guard lock(mutex_);
  take_ = std::move(take);
}

double ChromeTrace::microseconds(std::chrono::nanoseconds time) const {
  return static_cast<double>((time - process_.origin).count()) * 1e-3;
}

void ChromeTrace::span(const TraceSpan& span) {
  JsonWriter out = event("X", span.name, process_.number, span.lane);
  out.field("cat", span.category)
      .field("ts", microseconds(span.begin))
      .field("dur", static_cast<double>(span.duration.count()) * 1e-3);
  if (!span.detail.empty() || span.trace != 0 || !span.arguments.empty()) {
    out.key("args").begin_object();
    if (!span.detail.empty()) out.field("of", span.detail);
    for (const TraceArgument& argument : span.arguments) {
      std::visit([&](const auto& value) { out.field(argument.name, value); }, argument.value);
    }
    if (span.trace != 0) out.field("trace", fmt::format("{:x}", span.trace >> 32));
    out.end_object();
  }
  out.end_object();
  add(out.text(), span.begin + span.duration);
  if (!span.arrived) return;
  JsonWriter arrow = event("f", "message", process_.number, span.lane);
  arrow.field("cat", "message").field("id", fmt::format("{:x}", span.trace)).field("bp", "e");
  arrow.field("ts", microseconds(span.begin)).end_object();
  add(arrow.text(), span.begin);
}

void ChromeTrace::sent(uint64_t trace, std::chrono::nanoseconds at, int64_t lane) {
  JsonWriter arrow = event("s", "message", process_.number, lane);
  arrow.field("cat", "message").field("id", fmt::format("{:x}", trace)).field("ts", microseconds(at)).end_object();
  add(arrow.text(), at);
}

void ChromeTrace::metadata(std::string_view what, int64_t lane, std::string_view key, std::string_view value) {
  JsonWriter out = event("M", what, process_.number, lane);
  out.key("args").begin_object().field(key, value).end_object().end_object();
  add(out.text(), process_.origin);
}

void ChromeTrace::name_lane(int64_t lane, std::string_view name) { metadata("thread_name", lane, "name", name); }

void ChromeTrace::add(std::string_view line, std::chrono::nanoseconds at) {
  bool due = false;
  {
    const std::lock_guard lock(mutex_);
    if (piece_.lines.size() + line.size() > kMostBytes) {
      ++piece_.lost;
    } else {
      piece_.lines += line;
      piece_.lines += ",\n";
      ++events_;
    }
    due = take_ && (piece_.lines.size() >= kPieceBytes || at - since_ >= kPieceAge);
    if (due) since_ = at;
  }
  if (due) flush();
}

// Whoever takes a piece may tell something itself: no lock is held meanwhile.
void ChromeTrace::flush() {
  Take take;
  TracePiece piece;
  int64_t events = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!take_ || (piece_.lines.empty() && piece_.lost == 0)) return;
    take = take_;
    std::swap(piece, piece_);
    std::swap(events, events_);
  }
  const int64_t lost = piece.lost + events;
  if (take(std::move(piece))) return;
  const std::lock_guard lock(mutex_);
  piece_.lost += lost;
}

TraceFile::TraceFile(AtomicFile file, int64_t most_bytes) : most_bytes_(most_bytes), file_(std::move(file)) {}

Result<std::unique_ptr<TraceFile>> TraceFile::open(FileSystem& files, const std::string& path, int64_t most_bytes) {
  if (std::filesystem::is_directory(path)) return usage_error("{}: is a folder, where a file is wanted", path);
  auto file = AtomicFile::create(files, path);
  if (!file.ok() && file.error().kind() == ErrorKind::failed) return usage_error("{}", file.error().message());
  std::unique_ptr<TraceFile> trace(new TraceFile(TROUPE_TRY(std::move(file)), most_bytes));
  trace->write("[\n");
  return trace;
}

bool TraceFile::write(std::string_view text) {
  if (finished_) return false;
  if (status_.ok()) status_ = file_.write(text);
  if (status_.ok()) bytes_ += static_cast<int64_t>(text.size());
  return status_.ok();
}

void TraceFile::append(const TracePiece& piece) {
  const int64_t events = events_in(piece.lines);
  const std::lock_guard lock(mutex_);
  summary_.dropped += piece.lost;
  const bool fits = bytes_ + static_cast<int64_t>(piece.lines.size()) <= most_bytes_;
  if (fits && write(piece.lines)) summary_.events += events;
  else summary_.dropped += events;
}

void TraceFile::note(std::chrono::nanoseconds since_origin, std::string_view what) {
  JsonWriter out = event("i", what, 1, kStepLane);
  out.field("s", "g").field("ts", static_cast<double>(since_origin.count()) * 1e-3).end_object();
  const std::lock_guard lock(mutex_);
  if (write(out.text() + ",\n")) ++summary_.events;
}

// The last event stands behind the last comma.
Result<TraceSummary> TraceFile::finish() {
  const std::lock_guard lock(mutex_);
  JsonWriter out = event("M", "trace_end", 1, kStepLane);
  out.key("args").begin_object().field("events", summary_.events).field("dropped", summary_.dropped);
  out.end_object().end_object();
  write(out.text() + "\n]\n");
  finished_ = true;
  TROUPE_TRY(std::move(status_));
  TROUPE_TRY(file_.commit());
  return summary_;
}

}  // namespace troupe
