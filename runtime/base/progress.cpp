#include "runtime/base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "runtime/base/human_format.h"

namespace troupe {
namespace {

constexpr int kDefaultColumns = 80;

bool continues_utf8(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

size_t code_points(std::string_view text) {
  return text.size() - static_cast<size_t>(std::count_if(text.begin(), text.end(), continues_utf8));
}

// As many fields as fit; the first one is cut rather than left out.
std::string join(std::span<const std::string> fields, size_t limit) {
  std::string text;
  for (const std::string& field : fields) {
    const size_t gap = text.empty() ? 0 : 2;
    if (code_points(text) + gap + code_points(field) > limit) {
      if (!text.empty()) break;
      size_t end = 0;
      for (size_t points = 0; end < field.size(); ++end) {
        if (!continues_utf8(field[end]) && points++ == limit) break;
      }
      return field.substr(0, end);
    }
    text.append(gap, ' ');
    text += field;
  }
  return text;
}

}  // namespace

ProgressOutput ProgressOutput::to_stderr() {
  ProgressOutput output;
  output.terminal = ::isatty(STDERR_FILENO) == 1;
  output.write = [](std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return;
      text.remove_prefix(static_cast<size_t>(written));
    }
  };
  output.columns = [] {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? int{size.ws_col} : 0;
  };
  return output;
}

ProgressOutput ProgressOutput::none() {
  return {[](std::string_view) {}, false, {}};
}

ProgressLine::ProgressLine(const Clock& clock, ProgressOutput output, Options options)
    : clock_(clock), output_(std::move(output)), options_(options), wait_seconds_(options.first_plain_seconds) {}

ProgressLine::~ProgressLine() {
  if (line_stands_) output_.write("\n");
}

bool ProgressLine::due() const {
  return !shown_at_ || clock_.seconds() - *shown_at_ >= (output_.terminal ? options_.rewrite_seconds : wait_seconds_);
}

void ProgressLine::show(std::span<const std::string> fields) {
  if (shown_at_) wait_seconds_ = std::min(wait_seconds_ * options_.plain_growth, options_.longest_plain_seconds);
  shown_at_ = clock_.seconds();
  if (!output_.terminal) {
    plain_ = join(fields, std::string::npos);
    output_.write(plain_ + "\n");
    return;
  }
  const int asked = output_.columns ? output_.columns() : 0;
  const int columns = asked > 0 ? asked : kDefaultColumns;
  // The last column stays free: some terminals wrap as soon as it is filled.
  output_.write("\r" + join(fields, static_cast<size_t>(std::max(columns - 1, 1))) + "\033[K");
  line_stands_ = true;
}

void ProgressLine::finish(std::span<const std::string> fields) {
  if (output_.terminal || join(fields, std::string::npos) != plain_) show(fields);
  if (line_stands_) output_.write("\n");
  line_stands_ = false;
}

RateMeter::RateMeter(const Clock& clock, double half_life_seconds)
    : clock_(clock), half_life_(half_life_seconds), before_(clock.seconds()) {}

double RateMeter::update(double done) {
  const double now = clock_.seconds(), passed = now - before_;
  const double kept = std::exp2(-passed / half_life_);
  work_ = work_ * kept + (done - done_);
  seconds_ = seconds_ * kept + passed;
  before_ = now;
  done_ = done;
  return seconds_ > 0 ? work_ / seconds_ : 0;
}

TrainingProgress::TrainingProgress(const Clock& clock, ProgressOutput output, int64_t first_step, int64_t total_steps,
                                   ProgressLine::Options options)
    : line_(clock, std::move(output), options),
      steps_(clock),
      tokens_(clock),
      first_step_(first_step),
      total_steps_(total_steps) {}

void TrainingProgress::update(int64_t step, double loss, int64_t tokens_of_step, double mfu) {
  total_tokens_ += static_cast<double>(tokens_of_step);
  const double steps_per_second = steps_.update(static_cast<double>(step - first_step_));
  const double tokens_per_second = tokens_.update(total_tokens_);
  fields_ = {fmt::format("step {}/{}", step, total_steps_), fmt::format("loss {:.4f}", loss)};
  if (tokens_per_second > 0) fields_.push_back(human_count(tokens_per_second) + " tokens/s");
  if (mfu > 0) fields_.push_back(fmt::format("MFU {:.1f}%", 100 * mfu));
  if (steps_per_second > 0 && step < total_steps_) {
    fields_.push_back("ETA " + human_duration(static_cast<double>(total_steps_ - step) / steps_per_second));
  }
  if (line_.due()) line_.show(fields_);
}

void TrainingProgress::finish() {
  if (!fields_.empty()) line_.finish(fields_);
}

ByteProgress::ByteProgress(const Clock& clock, ProgressOutput output, std::string label, int64_t total_bytes,
                           ProgressLine::Options options)
    : line_(clock, std::move(output), options),
      rate_(clock),
      clock_(clock),
      started_(clock.seconds()),
      label_(std::move(label)),
      total_bytes_(total_bytes) {}

void ByteProgress::advance(int64_t bytes) {
  std::lock_guard lock(mutex_);
  done_bytes_ += bytes;
  if (!line_.due()) return;
  const auto done = static_cast<double>(done_bytes_), total = static_cast<double>(total_bytes_);
  const double rate = rate_.update(done);
  std::vector<std::string> fields;
  if (total > 0) {
    fields.push_back(fmt::format("{} {} of {} ({:.0f}%)", label_, human_bytes(done), human_bytes(total),
                                 std::floor(100 * done / total)));
  } else {
    fields.push_back(fmt::format("{} {}", label_, human_bytes(done)));
  }
  if (rate > 0) fields.push_back(human_bytes(rate) + "/s");
  if (rate > 0 && total > 0) fields.push_back("ETA " + human_duration(std::max(0.0, total - done) / rate));
  line_.show(fields);
}

void ByteProgress::finish() {
  std::lock_guard lock(mutex_);
  const double seconds = clock_.seconds() - started_;
  std::string text =
      fmt::format("{} {} in {}", label_, human_bytes(static_cast<double>(done_bytes_)), human_duration(seconds));
  if (seconds > 0) text += fmt::format(", {}/s", human_bytes(static_cast<double>(done_bytes_) / seconds));
  const std::string fields[] = {text};
  line_.finish(fields);
}

}  // namespace troupe
