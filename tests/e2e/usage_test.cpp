// Mistakes on the command line, in the config and in the data: one line that says what and where, exit code 2.
#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {
namespace {

using testing::HasSubstr;

class Usage : public EndToEnd {
 protected:
  // small.toml with `from` replaced by `to`.
  void edit(const std::string& from, const std::string& to) const {
    std::string text = read("small.toml");
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    write("small.toml", text.replace(at, from.size(), to));
  }
};

TEST_F(Usage, AMisspeltKeyIsNamedWithItsPlaceAndTheNearestOne) {
  edit("learning_rate", "lerning_rate");
  expect_failure(train("out"), 2,
                 {"small.toml:15: ", "\"train.lerning_rate\"", "did you mean \"train.learning_rate\"?"});
  edit("lerning_rate", "learning_rate");
  expect_failure(train("out", {"train.stpes=1"}), 2, {"train.stpes", "did you mean \"train.steps\"?"});
  EXPECT_FALSE(exists("out"));
}

TEST_F(Usage, AnUnknownSectionIsNamed) {
  expect_failure(train("out", {"rl.lerning_rate=3"}), 2, {"rl"});
  edit("[train]", "[trian]");
  expect_failure(train("out"), 2, {"small.toml:11: ", "trian", "did you mean \"train\"?"});
}

TEST_F(Usage, AWrongTypeIsNamedWithWhatIsWanted) {
  edit("steps = 20", "steps = \"twenty\"");
  expect_failure(train("out"), 2, {"small.toml:12: ", "train.steps", "integer"});
}

TEST_F(Usage, ATextThatIsNotTomlIsNamedByItsLine) {
  edit("steps = 20", "steps = = 20");
  expect_failure(train("out"), 2, {"small.toml:12: "});
}

TEST_F(Usage, AValueOutOfRangeIsNamed) {
  expect_failure(train("out", {"train.steps=0"}), 2, {"train.steps"});
  expect_failure(train("out", {"model.dropout=1.5"}), 2, {"model.dropout"});
  expect_failure(train("out", {"train.micro_batch=3"}), 2, {"train.micro_batch", "global_batch = 4"});
}

TEST_F(Usage, AnUnknownPresetBringsTheNearest) {
  edit("layers = 2", "preset = \"gpt2-124\"");
  expect_failure(train("out"), 2, {"small.toml:2", "gpt2-124", "did you mean \"gpt2-124m\"?"});
}

TEST_F(Usage, AWidthThatHeadsDoNotDivideBringsTheNearest) {
  expect_failure(train("out", {"model.width=33"}), 2, {"model.heads = 4", "model.width = 33", "32", "36"});
}

TEST_F(Usage, ALongerSequenceThanTheContextIsRefused) {
  expect_failure(train("out", {"train.sequence_length=65"}), 2, {"train.sequence_length = 65", "model.context = 64"});
}

TEST_F(Usage, RanksThatCannotShareTheWorkAreRefused) {
  expect_failure(train("out", {"parallel.tensor=3"}), 2, {"parallel.tensor = 3", "model.heads = 4", "2 or 4"});
  expect_failure(train("out", {"parallel.pipeline=3"}), 2, {"parallel.pipeline = 3", "model.layers = 2"});
  expect_failure(train("out", {"parallel.context=17"}), 2, {"parallel.context = 17"});
  expect_failure(train("out", {"parallel.expert=2"}), 2, {"parallel.expert = 2", "model.experts"});
  expect_failure(train("out", {"parallel.tensor=\"auto\"", "parallel.data=\"auto\""}), 2, {"parallel.tensor", "auto"});
  expect_failure(train("out", {"parallel.data=3"}), 2, {"parallel.data = 3", "train.global_batch = 4", "2 or 4"});
  expect_failure(troupe({"train", "small.toml", "--ranks", "3"}), 2, {"parallel.data = 3", "train.global_batch = 4"});
  expect_failure(troupe({"train", "small.toml", "--ranks", "4", "--set", "parallel.data=2"}), 2,
                 {"4 ranks", "parallel.data = 2"});
  expect_failure(troupe({"train", "small.toml", "--ranks", "4", "--set", "parallel.data=1"}), 2,
                 {"4 ranks", "parallel.data = 1"});
  expect_failure(troupe({"train", "small.toml", "--ranks", "2", "--set", "train.micro_batch=4"}), 2,
                 {"train.micro_batch = 4", "2 sequences"});
  expect_failure(troupe({"train", "small.toml", "--ranks", "3", "--set", "parallel.tensor=2"}), 2,
                 {"3 ranks asked for", "tensor 2", "2 or 4"});
  expect_failure(train("out", {"parallel.zero=4"}), 2, {"parallel.zero"});
  expect_failure(train("out", {"parallel.schedule=\"zigzag\""}), 2, {"parallel.schedule", "interleaved"});
}

TEST_F(Usage, AMissingConfigIsNamed) {
  expect_failure(troupe({"train", "none.toml"}), 2, {"none.toml", "No such file"});
  expect_failure(troupe({"train", "."}), 2, {"folder"});
}

TEST_F(Usage, MissingOrEmptyDataAreNamed) {
  expect_failure(train("out", {"data.train=none.txt"}), 2, {"data.train", "none.txt", "no such file"});
  write("empty.txt", "");
  expect_failure(train("out", {"data.train=empty.txt"}), 2, {"data.train", "empty.txt", "empty"});
  expect_failure(train("out", {"data.validation=empty.txt"}), 2, {"data.validation", "empty.txt", "empty"});
  expect_failure(train("out", {"data.tokenizer=none.json"}), 2, {"data.tokenizer", "none.json"});
  edit("train = \"text.txt\"\n", "");
  expect_failure(train("out"), 2, {"data.train names no data"});
}

TEST_F(Usage, DataShorterThanASequenceAreRefusedWithBothLengths) {
  write("short.txt", "only thirty bytes of text here");
  expect_failure(train("out", {"data.train=short.txt"}), 2, {"short.txt", "sequence_length = 32", "33"});
}

TEST_F(Usage, BytesThatAreNotUtf8AreTrainedOnAsTheyAre) {
  std::string text;
  for (int i = 0; i < 4000; ++i) text += static_cast<char>(i % 3 == 0 ? 0xFF : i % 3 == 1 ? 0xC3 : 'a');
  write("bytes.txt", text);
  train_well("out", {"data.train=bytes.txt", "train.steps=60"});
  const Outcome outcome = troupe(
      {"generate", "--checkpoint", "out", "--prompt", "a", "--temperature", "0", "--max-tokens", "6", "--quiet"});
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_EQ(outcome.out,
            "a\xFF\xC3"
            "a\xFF\xC3"
            "a\n")
      << "the model has not learnt the three bytes";
}

TEST_F(Usage, AnUnknownCommandBringsTheKnownOnes) {
  expect_failure(troupe({"trian"}), 2, {"no command \"trian\"", "train", "generate", "tokenizer", "bench", "doctor"});
  expect_failure(troupe({"bench", "gem"}), 2, {"no command \"bench gem\"", "gemm", "attention"});
  expect_failure(troupe({"tokenizer", "encoed"}), 2, {"no command \"tokenizer encoed\"", "encode", "decode"});
  expect_failure(troupe({}), 2, {"--help"});
}

TEST_F(Usage, AnUnknownOptionPointsToTheHelp) {
  expect_failure(troupe({"train", "small.toml", "--oot", "x"}), 2, {"--oot", "troupe train --help"});
  expect_failure(troupe({"generate", "--promt", "x"}), 2, {"troupe generate --help"});
}

TEST_F(Usage, MissingAndBadArgumentsAreNamed) {
  expect_failure(troupe({"train"}), 2, {"config", "troupe train --help"});
  expect_failure(troupe({"train", "small.toml", "--out"}), 2, {"--out"});
  expect_failure(troupe({"train", "small.toml", "--threads", "many"}), 2, {"--threads"});
  expect_failure(troupe({"train", "small.toml", "--set", "steps"}), 2, {"--set steps"});
  expect_failure(troupe({"generate", "--checkpoint", "out"}), 2, {"--prompt"});
  expect_failure(troupe({"generate", "--checkpoint", "none", "--prompt", "x"}), 2, {"--checkpoint none"});
  expect_failure(troupe({"generate", "--checkpoint", ".", "--prompt", "x"}), 2, {"no checkpoint in it"});
}

struct HelpCase {
  std::vector<std::string> command, options;
};

TEST_F(Usage, HelpNamesEveryOption) {
  const std::vector<HelpCase> cases{
      {{}, {"train", "plan", "generate", "tokenizer", "bench", "doctor", "--version", "Exit codes"}},
      {{"train"}, {"config", "--set", "--out", "--resume", "--ranks", "--processes", "--threads"}},
      {{"generate"},
       {"--checkpoint", "--prompt", "--max-tokens", "--temperature", "--top-k", "--top-p", "--min-p",
        "--repetition-penalty", "--seed", "--stop", "--compute", "--threads", "--json", "--quiet"}},
      {{"plan"}, {"config", "--gpus", "--device", "--set", "--search", "--top", "--memory", "--timeline", "--json"}},
      {{"tokenizer"}, {"train", "encode", "decode", "count"}},
      {{"tokenizer", "train"}, {"--input", "--vocabulary", "--output", "--pattern", "--threads", "--json"}},
      {{"tokenizer", "encode"}, {"--tokenizer"}},
      {{"tokenizer", "decode"}, {"--tokenizer"}},
      {{"tokenizer", "count"}, {"--tokenizer", "--json"}},
      {{"bench"}, {"gemm", "attention", "train", "generate", "collectives", "actors"}},
      {{"bench", "collectives"}, {"--ranks", "--json"}},
      {{"bench", "gemm"}, {"--threads", "--json"}},
      {{"bench", "attention"}, {"--threads", "--json"}},
      {{"bench", "train"}, {"--model", "--batch", "--seq", "--threads", "--json"}},
      {{"bench", "generate"}, {"--threads", "--json"}},
      {{"doctor"}, {"--json"}}};
  for (HelpCase one : cases) {
    one.command.push_back("--help");
    const Outcome outcome = troupe(one.command);
    EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
    EXPECT_EQ(outcome.err, "");
    for (const std::string& option : one.options) EXPECT_THAT(outcome.out, HasSubstr(option));
  }
}

}  // namespace
}  // namespace troupe::e2e
