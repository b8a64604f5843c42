// What the end-to-end tests share: a folder with a small text and a small config, and eyes for what a run leaves.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "tests/e2e/run_program.h"

namespace troupe::e2e {

// A folder made for each test, removed with all in it. In it, text.txt (6 KB) and small.toml: a model of bytes,
// width 32, 2 layers, trained for 20 steps of 4 × 32 tokens with a constant learning rate, one checkpoint at the end.
class EndToEnd : public testing::Test {
 protected:
  EndToEnd();
  ~EndToEnd() override;

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string write(const std::string& name, std::string_view content) const;
  std::string read(const std::string& name) const;
  bool exists(const std::string& name) const;
  std::vector<std::string> list(const std::string& name) const;  // sorted; all entries
  void copy(const std::string& from, const std::string& to) const;

  // The program in this folder; RunOptions::folder is filled in.
  Outcome troupe(const std::vector<std::string>& arguments, RunOptions options = {}) const;
  // `troupe train small.toml --threads 1 --out OUT` with a --set for each of `settings`, and `--resume` if asked.
  std::vector<std::string> train_arguments(const std::string& out, const std::vector<std::string>& settings,
                                           bool resume = false) const;
  Outcome train(const std::string& out, const std::vector<std::string>& settings = {}, bool resume = false) const;
  // The same, which must succeed.
  void train_well(const std::string& out, const std::vector<std::string>& settings = {}, bool resume = false) const;
  // A run that has been stopped after 5, 10, 15 and 20 steps of 20, all checkpoints kept.
  void train_in_fives(const std::string& out) const { train_well(out, {"checkpoint.every=5", "checkpoint.keep=0"}); }

  // "STEP: TEXT" of a member of every line of OUT/metrics.jsonl, by step; the last line of a step wins.
  std::vector<std::string> metric(const std::string& out, const std::string& member) const;
  // Its numbers, of the steps that have it.
  std::vector<double> numbers(const std::string& out, const std::string& member) const;
  // What the manifest of a step says about its tensors, checksums included.
  std::string tensors(const std::string& out, int step) const;
  std::string checkpoint(const std::string& out, int step) const;  // its folder

  // Changes one byte of a file.
  void flip(const std::string& name, size_t offset) const;
  void truncate(const std::string& name, size_t bytes) const;

  // So many lines has OUT/metrics.jsonl: the steps that were written down.
  size_t lines(const std::string& out) const;

  const std::string& folder() const { return folder_; }
  // For a program in this folder.
  RunOptions here() const;

 private:
  std::string folder_;
};

// The lines of `text` that are not progress ("step …", "tokenizing …").
std::vector<std::string> messages(const std::string& text);

std::string describe(const Outcome& outcome);

// The exit code; on stderr, progress apart, one line: "troupe: " and a text that holds each of `parts`.
void expect_failure(const Outcome& outcome, int exit_code, const std::vector<std::string>& parts);

}  // namespace troupe::e2e
