#include "runtime/base/chrome_trace.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "runtime/base/json.h"

namespace troupe {
namespace {

constexpr size_t kBuffer = 1 << 18;

}  // namespace

struct ChromeTrace::State {
  std::mutex mutex;
  std::string path;
  std::FILE* file = nullptr;  // null once finished
  int64_t process = 0;
  std::string buffer;
  int error = 0;  // errno of the first failure

  void line(std::string_view text) {
    buffer += text;
    buffer += ",\n";
    if (buffer.size() >= kBuffer) flush();
  }
  void flush() {
    if (error == 0 && std::fwrite(buffer.data(), 1, buffer.size(), file) != buffer.size()) error = errno;
    buffer.clear();
  }
  void metadata(std::string_view what, int64_t lane, std::string_view name) {
    JsonWriter out;
    out.begin_object().field("name", what).field("ph", "M").field("pid", process).field("tid", lane);
    out.key("args").begin_object().field("name", name).end_object().end_object();
    line(out.text());
  }
};

ChromeTrace::ChromeTrace(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<ChromeTrace>> ChromeTrace::open(const std::string& path, const std::string& process,
                                                       int64_t number) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->process = number;
  state->file = std::fopen(path.c_str(), "we");
  if (state->file == nullptr) return failed("{}: {}", path, std::strerror(errno));
  state->buffer = "[\n";
  state->metadata("process_name", 0, process);
  return std::unique_ptr<ChromeTrace>(new ChromeTrace(std::move(state)));
}

ChromeTrace::~ChromeTrace() { (void)finish(); }

void ChromeTrace::span(const TraceSpan& span) {
  const auto microseconds = [](std::chrono::nanoseconds time) { return static_cast<double>(time.count()) * 1e-3; };
  JsonWriter out;
  out.begin_object()
      .field("name", span.name)
      .field("cat", span.category)
      .field("ph", "X")
      .field("ts", microseconds(span.begin))
      .field("dur", microseconds(span.duration));
  const std::lock_guard lock(state_->mutex);
  if (state_->file == nullptr) return;
  out.field("pid", state_->process).field("tid", span.lane);
  if (!span.detail.empty() || span.trace != 0) {
    out.key("args").begin_object();
    if (!span.detail.empty()) out.field("of", span.detail);
    if (span.trace != 0) out.field("trace", fmt::format("{:x}", span.trace));
    out.end_object();
  }
  out.end_object();
  state_->line(out.text());
}

void ChromeTrace::name_lane(int64_t lane, const std::string& name) {
  const std::lock_guard lock(state_->mutex);
  if (state_->file != nullptr) state_->metadata("thread_name", lane, name);
}

Status ChromeTrace::finish() {
  const std::lock_guard lock(state_->mutex);
  if (state_->file == nullptr) return {};
  // An event of no length stands behind the last comma.
  state_->buffer += fmt::format("{{\"name\":\"end\",\"ph\":\"M\",\"pid\":{},\"tid\":0}}\n]\n", state_->process);
  state_->flush();
  if (std::fclose(std::exchange(state_->file, nullptr)) != 0 && state_->error == 0) state_->error = errno;
  if (state_->error != 0) return failed("{}: {}", state_->path, std::strerror(state_->error));
  return {};
}

}  // namespace troupe
