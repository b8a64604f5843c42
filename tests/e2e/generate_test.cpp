// troupe generate as a user and as a script meet it.
#include <signal.h>

#include <boost/json.hpp>

#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

class Generate : public EndToEnd {
 protected:
  Outcome generate(const std::string& prompt, std::vector<std::string> options, const std::string& from = "out") const {
    options.insert(options.begin(), {"generate", "--checkpoint", from, "--threads", "1", "--prompt", prompt});
    return troupe(options);
  }
  std::string text(const std::string& prompt, std::vector<std::string> options) const {
    options.push_back("--quiet");
    const Outcome outcome = generate(prompt, options);
    EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }
  boost::json::object json(const std::string& prompt, std::vector<std::string> options) const {
    options.push_back("--json");
    const Outcome outcome = generate(prompt, options);
    EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
    EXPECT_EQ(outcome.err, "");
    return boost::json::parse(outcome.out).as_object();
  }
};

TEST_F(Generate, GreedyTextIsAlwaysTheSame) {
  train_well("out");
  const std::string once = text("the ", {"--temperature", "0", "--max-tokens", "40"});
  EXPECT_THAT(once, AllOf(StartsWith("the "), testing::SizeIs(testing::Gt(6))));
  EXPECT_EQ(text("the ", {"--temperature", "0", "--max-tokens", "40", "--seed", "5"}), once);
  EXPECT_EQ(text("the ", {"--top-k", "1", "--max-tokens", "40"}), once);
}

TEST_F(Generate, TheSameSeedGivesTheSameTextAndAnotherSeedAnother) {
  train_well("out");
  const std::string once = text("the ", {"--seed", "1", "--max-tokens", "50"});
  EXPECT_EQ(text("the ", {"--seed", "1", "--max-tokens", "50"}), once);
  EXPECT_NE(text("the ", {"--seed", "2", "--max-tokens", "50"}), once);
  EXPECT_EQ(text("the ", {"--seed", "1", "--max-tokens", "20"}), once.substr(0, 4 + 20) + "\n");
}

TEST_F(Generate, AnOlderStepSpeaksAsItDidThen) {
  train_in_fives("out");
  train_well("short", {"train.steps=10"});
  const std::vector<std::string> options{"--max-tokens", "20", "--quiet"};
  EXPECT_EQ(generate("the ", options, checkpoint("out", 10)).out, generate("the ", options, "short").out);
}

TEST_F(Generate, JsonHoldsTextReasonCountsAndSpeeds) {
  train_well("out");
  const auto object = json("the ", {"--max-tokens", "9", "--temperature", "0"});
  EXPECT_EQ(object.at("prompt").as_string(), "the ");
  EXPECT_EQ("the " + std::string(object.at("text").as_string()) + "\n",
            text("the ", {"--max-tokens", "9", "--temperature", "0"}));
  EXPECT_EQ(object.at("finish_reason").as_string(), "length");
  EXPECT_EQ(object.at("prompt_tokens").as_int64(), 4);
  EXPECT_EQ(object.at("generated_tokens").as_int64(), 9);
  EXPECT_GT(object.at("prefill_tokens_per_second").as_double(), 0);
  EXPECT_GT(object.at("decode_tokens_per_second").as_double(), 0);
}

TEST_F(Generate, ItEndsAtALengthAStopOrTheContext) {
  train_well("out", {"train.steps=100"});
  const std::string all = text("the ", {"--temperature", "0", "--max-tokens", "30"});
  const std::string stop = all.substr(10, 3);
  const auto stopped = json("the ", {"--temperature", "0", "--max-tokens", "30", "--stop", stop, "--stop", "never"});
  EXPECT_EQ(stopped.at("finish_reason").as_string(), "stop");
  const std::string continued = all.substr(4);
  EXPECT_EQ(stopped.at("text").as_string(), continued.substr(0, continued.find(stop)));
  EXPECT_EQ(text("the ", {"--temperature", "0", "--max-tokens", "30", "--stop", stop}),
            "the " + continued.substr(0, continued.find(stop)) + "\n");

  const auto full = json("the ", {"--temperature", "0", "--max-tokens", "1000"});
  EXPECT_EQ(full.at("finish_reason").as_string(), "context");
  EXPECT_EQ(full.at("generated_tokens").as_int64(), 64 - 4 + 1) << "the last token needs no place of its own";
}

TEST_F(Generate, AnEmptyPromptStartsADocument) {
  train_well("out");
  const auto object = json("", {"--max-tokens", "5"});
  EXPECT_EQ(object.at("prompt_tokens").as_int64(), 1);
  EXPECT_EQ(object.at("generated_tokens").as_int64(), 5);
}

TEST_F(Generate, APromptThatFillsTheContextIsRefused) {
  train_well("out");
  EXPECT_EQ(generate(std::string(63, 'a'), {}).exit_code, 0);
  expect_failure(generate(std::string(64, 'a'), {}), 2, {"--prompt has 64 tokens", "context is 64"});
  expect_failure(generate(std::string(5000, 'a'), {}), 2, {"--prompt has 5000 tokens", "context is 64"});
}

TEST_F(Generate, OptionsOutOfRangeAreRefused) {
  train_well("out");
  for (const auto& [option, value] : std::vector<std::pair<std::string, std::string>>{
           {"--temperature", "-1"}, {"--top-p", "1.5"}, {"--max-tokens", "0"}, {"--compute", "f16"}, {"--seed", "x"}})
    expect_failure(generate("the ", {option, value}), 2, {option});
}

TEST_F(Generate, SpeedsGoToStderr) {
  train_well("out");
  const Outcome outcome = generate("the ", {"--max-tokens", "3"});
  EXPECT_THAT(messages(outcome.err),
              ElementsAre(AllOf(StartsWith("prefill 4 tokens, "), HasSubstr("decode 3 tokens"))));
}

TEST_F(Generate, Bf16SpeaksToo) {
  train_well("out", {"numerics.compute=bf16"});
  EXPECT_EQ(text("the ", {"--temperature", "0", "--max-tokens", "10"}),
            text("the ", {"--temperature", "0", "--max-tokens", "10", "--compute", "bf16"}));
  EXPECT_EQ(text("the ", {"--max-tokens", "10", "--compute", "f32"}).substr(0, 4), "the ");
}

TEST_F(Generate, AnInterruptStopsIt) {
  train_well("out", {"model.context=1000000", "train.steps=2"});
  RunOptions options;
  options.folder = folder();
  RunningProgram program(
      {"generate", "--checkpoint", "out", "--prompt", "the ", "--max-tokens", "900000", "--threads", "1"}, options);
  EXPECT_TRUE(program.wait_until([&] { return program.out().size() > 8; }));
  program.send(SIGINT);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.exit_code, 75) << describe(outcome);
  EXPECT_THAT(outcome.err, HasSubstr("troupe: stopped while generating\n"));
  EXPECT_LT(outcome.out.size(), 900000u);
}

}  // namespace
}  // namespace troupe::e2e
