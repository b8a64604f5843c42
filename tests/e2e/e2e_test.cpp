#include "tests/e2e/e2e_test.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "runtime/base/check.h"

namespace troupe::e2e {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfig = R"([model]
layers = 2
width = 32
heads = 4
context = 64

[data]
train = "text.txt"
tokenizer = "bytes"

[train]
steps = 20
sequence_length = 32
global_batch = 4
learning_rate = 3e-3
schedule = "constant"
warmup_steps = 3
seed = 7
)";

// Sentences of some regularity, about `bytes` of them.
std::string some_text(size_t bytes) {
  constexpr std::string_view kWords[] = {"the",   "rain",  "falls", "on",   "a",  "green", "hill", "and",
                                         "every", "river", "runs",  "down", "to", "the",   "sea",  "again"};
  std::string text;
  for (uint32_t at = 1; text.size() < bytes;) {
    at = at * 1664525 + 1013904223;
    text += kWords[at >> 28];
    text += at % 7 == 0 ? ".\n" : " ";
  }
  return text;
}

// The text of "member": in a line of JSON whose values hold no comma.
std::string member_of(const std::string& line, const std::string& member) {
  const std::string key = "\"" + member + "\":";
  const size_t at = line.find(key);
  if (at == std::string::npos) return "";
  const size_t begin = at + key.size();
  return line.substr(begin, line.find_first_of(",}", begin) - begin);
}

}  // namespace

EndToEnd::EndToEnd() {
  std::string name = (fs::temp_directory_path() / "troupe-e2e-XXXXXX").string();
  TROUPE_CHECK(::mkdtemp(name.data()) != nullptr);
  folder_ = name;
  write("text.txt", some_text(6000));
  write("small.toml", kConfig);
}

EndToEnd::~EndToEnd() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::string EndToEnd::write(const std::string& name, std::string_view content) const {
  fs::create_directories(fs::path(path(name)).parent_path());
  std::ofstream(path(name), std::ios::binary) << content;
  return path(name);
}

std::string EndToEnd::read(const std::string& name) const {
  std::ostringstream content;
  content << std::ifstream(path(name), std::ios::binary).rdbuf();
  return content.str();
}

bool EndToEnd::exists(const std::string& name) const { return fs::exists(path(name)); }

std::vector<std::string> EndToEnd::list(const std::string& name) const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path(name))) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

void EndToEnd::copy(const std::string& from, const std::string& to) const {
  fs::copy(path(from), path(to), fs::copy_options::recursive);
}

Outcome EndToEnd::troupe(const std::vector<std::string>& arguments, RunOptions options) const {
  options.folder = folder_;
  return run(arguments, options);
}

std::vector<std::string> EndToEnd::train_arguments(const std::string& out, const std::vector<std::string>& settings,
                                                   bool resume) const {
  std::vector<std::string> arguments{"train", "small.toml", "--threads", "1", "--out", out};
  for (const std::string& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
  if (resume) arguments.push_back("--resume");
  return arguments;
}

Outcome EndToEnd::train(const std::string& out, const std::vector<std::string>& settings, bool resume) const {
  return troupe(train_arguments(out, settings, resume));
}

void EndToEnd::train_well(const std::string& out, const std::vector<std::string>& settings, bool resume) const {
  const Outcome outcome = train(out, settings, resume);
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_EQ(messages(outcome.err), std::vector<std::string>()) << describe(outcome);
}

std::vector<std::string> EndToEnd::metric(const std::string& out, const std::string& member) const {
  std::map<int, std::string> by_step;
  std::istringstream lines(read(out + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    by_step[std::stoi(member_of(line, "step"))] = member_of(line, member);
  std::vector<std::string> texts;
  for (const auto& [step, text] : by_step) texts.push_back(std::to_string(step) + ": " + text);
  return texts;
}

std::vector<double> EndToEnd::numbers(const std::string& out, const std::string& member) const {
  std::vector<double> all;
  for (const std::string& text : metric(out, member)) {
    const std::string number = text.substr(text.find(": ") + 2);
    if (!number.empty()) all.push_back(std::stod(number));
  }
  return all;
}

std::string EndToEnd::checkpoint(const std::string& out, int step) const {
  std::string digits = std::to_string(step);
  return out + "/checkpoints/step-" + std::string(8 - digits.size(), '0') + digits;
}

size_t EndToEnd::lines(const std::string& out) const {
  const std::string text = exists(out + "/metrics.jsonl") ? read(out + "/metrics.jsonl") : "";
  return static_cast<size_t>(std::ranges::count(text, '\n'));
}

RunOptions EndToEnd::here() const {
  RunOptions options;
  options.folder = folder_;
  return options;
}

std::string EndToEnd::tensors(const std::string& out, int step) const {
  const std::string manifest = read(checkpoint(out, step) + "/manifest.json");
  const size_t begin = manifest.find("\"tensors\""), end = manifest.rfind("\"checksum\"");
  EXPECT_NE(begin, std::string::npos) << checkpoint(out, step);
  return begin == std::string::npos ? "" : manifest.substr(begin, end - begin);
}

void EndToEnd::flip(const std::string& name, size_t offset) const {
  std::fstream file(path(name), std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(offset));
  const auto byte = static_cast<char>(file.get() ^ 1);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
}

void EndToEnd::truncate(const std::string& name, size_t bytes) const { fs::resize_file(path(name), bytes); }

std::vector<std::string> messages(const std::string& text) {
  std::vector<std::string> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("step ") && !line.starts_with("tokenizing ")) found.push_back(line);
  }
  return found;
}

std::string describe(const Outcome& outcome) {
  return "exit code " + std::to_string(outcome.exit_code) + ", signal " + std::to_string(outcome.signal) +
         (outcome.timed_out ? ", timed out" : "") + "\nstdout:\n" + outcome.out + "stderr:\n" + outcome.err;
}

void expect_failure(const Outcome& outcome, int exit_code, const std::vector<std::string>& parts) {
  EXPECT_EQ(outcome.exit_code, exit_code) << describe(outcome);
  const std::vector<std::string> said = messages(outcome.err);
  EXPECT_EQ(said.size(), 1u) << describe(outcome);
  if (said.empty()) return;
  EXPECT_THAT(said.back(), testing::StartsWith("troupe: "));
  for (const std::string& part : parts) EXPECT_THAT(said.back(), testing::HasSubstr(part));
}

}  // namespace troupe::e2e
