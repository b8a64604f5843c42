// A small run for the tests of actors/train: a folder that vanishes, a text of bytes in it, and a config.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "actors/train/run_setup.h"
#include "actors/train/train_messages.h"
#include "runtime/base/check.h"

namespace troupe::train {

class RunTest : public testing::Test {
 protected:
  RunTest() {
    folder_ = (std::filesystem::temp_directory_path() / "troupe-run-XXXXXX").string();
    TROUPE_CHECK(::mkdtemp(folder_.data()) != nullptr);
    std::filesystem::create_directories(path("out"));
    std::string text;
    while (text.size() < 2000) text += "the rain falls on a green hill, and every river runs down to the sea\n";
    write("text.txt", text);
  }
  ~RunTest() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  void write(const std::string& name, std::string_view content) const {
    std::ofstream(path(name), std::ios::binary) << content;
  }

  // One layer of width 16, 4 sequences of 16 bytes a step, 10 steps.
  std::string config(const std::string& settings_of_train = "") const {
    return fmt::format(
        "[model]\nlayers = 1\nwidth = 16\nheads = 2\ncontext = 16\n[data]\ntrain = \"{}\"\ntokenizer = \"bytes\"\n"
        "[train]\nsteps = 10\nsequence_length = 16\nglobal_batch = 4\n{}\n",
        path("text.txt"), settings_of_train);
  }
  std::shared_ptr<RunSetup> setup(const std::string& text) {
    Config parsed = Config::parse(text, "test.toml").value();
    auto made = std::make_shared<RunSetup>(RunSetup::read(parsed).value());
    ThreadPool pool(1);
    const Status opened = made->open_data(path("out"), files_, pool);
    TROUPE_CHECK(opened.ok(), "{}", opened.error().message());
    return made;
  }
  RankAssignment assignment(const std::string& text, const RunSetup& of) const {
    return {.config = text,
            .config_path = "test.toml",
            .out = path("out"),
            .tokenizer_fingerprint = of.tokenizer->fingerprint(),
            .data_fingerprint = of.data->fingerprint};
  }

  PosixFileSystem files_;

 private:
  std::string folder_;
};

}  // namespace troupe::train
