// troupe plan: what it says of a layout, and what it refuses.
#include <boost/json.hpp>

#include "tests/e2e/e2e_test.h"

namespace troupe::e2e {
namespace {

using testing::HasSubstr;

class PlanCommand : public EndToEnd {
 protected:
  PlanCommand() {
    write("llama.toml",
          "[model]\npreset = \"llama-8b\"\n\n[numerics]\ncompute = \"bf16\"\n\n[train]\nsequence_length = 8192\n"
          "global_batch = 512\n");
  }
  Outcome plan(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"plan", "llama.toml"});
    return troupe(arguments);
  }
  // Of a plan that must succeed.
  boost::json::object json(std::vector<std::string> arguments) const {
    arguments.push_back("--json");
    const Outcome outcome = plan(std::move(arguments));
    EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
    return boost::json::parse(outcome.out).as_object();
  }
};

TEST_F(PlanCommand, ShowsMemoryTimeAndTrafficOnOneScreen) {
  const Outcome outcome = plan({"--gpus", "64", "--set", "parallel.tensor=4", "--set", "parallel.pipeline=2"});
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_EQ(outcome.err, "");
  for (const char* part : {"8.0B parameters", "64 × h100", "pipeline 2 × data 8 × tensor 4", "MFU", "memory", "fits",
                           "activations", "matrix products", "pipeline bubble", "reduce-scatter", "send"})
    EXPECT_THAT(outcome.out, HasSubstr(part));
  EXPECT_LE(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 45);
}

TEST_F(PlanCommand, JsonHasTheSameInFull) {
  const boost::json::object all = json({"--gpus", "64", "--set", "parallel.tensor=4", "--set", "parallel.pipeline=2"});
  const auto& plan = all.at("plan").as_object();
  const auto& layout = plan.at("layout").as_object();
  EXPECT_EQ(layout.at("tensor").as_int64(), 4);
  EXPECT_EQ(layout.at("data").as_int64(), 8);
  const auto& memory = plan.at("memory").as_object();
  int64_t sum = 0;
  for (const char* kind : {"parameters", "gradients", "optimizer", "activations", "buffers"})
    sum += memory.at(kind).as_int64();
  EXPECT_EQ(memory.at("total").as_int64(), sum);
  EXPECT_TRUE(memory.at("fits").as_bool());
  double seconds = 0;
  for (const auto& part : plan.at("seconds").as_object()) seconds += part.value().as_double();
  EXPECT_NEAR(plan.at("step_seconds").as_double(), seconds, 1e-9 * seconds);
  EXPECT_GT(plan.at("mfu").as_double(), 0.2);
  EXPECT_LT(plan.at("mfu").as_double(), 0.7);
  EXPECT_FALSE(plan.at("traffic").as_array().empty());
}

TEST_F(PlanCommand, DrawsWhatEachStageDoes) {
  const Outcome outcome = plan({"--gpus", "16", "--set", "parallel.pipeline=4", "--timeline", "step.svg"});
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  const std::string svg = read("step.svg");
  EXPECT_THAT(svg, testing::StartsWith("<svg "));
  for (const char* part : {">stage 0<", ">stage 3<", "pipeline 4 × data 4", "% idle"})
    EXPECT_THAT(svg, HasSubstr(part));
  expect_failure(plan({"--gpus", "16", "--timeline", "none/step.svg"}), 1, {"none/step.svg"});
}

TEST_F(PlanCommand, WhatTheConfigSetsStays) {
  const boost::json::object all = json({"--gpus", "64", "--set", "parallel.zero=2", "--set", "train.micro_batch=2",
                                        "--set", "train.recompute=\"block\""});
  const auto& layout = all.at("plan").as_object().at("layout").as_object();
  EXPECT_EQ(layout.at("zero").as_int64(), 2);
  EXPECT_EQ(layout.at("micro_batch").as_int64(), 2);
  EXPECT_EQ(layout.at("recompute").as_string(), "block");
  EXPECT_EQ(layout.at("data").as_int64(), 64);
}

TEST_F(PlanCommand, SearchListsTheFastestFirst) {
  const Outcome table = plan({"--gpus", "64", "--search", "--top", "4"});
  EXPECT_EQ(table.exit_code, 0) << describe(table);
  EXPECT_THAT(table.out, HasSubstr("the fastest of each mesh"));
  const boost::json::object all = json({"--gpus", "64", "--search", "--top", "4"});
  const auto& best = all.at("best").as_array();
  ASSERT_EQ(best.size(), 4u);
  double last = 0;
  for (const auto& plan : best) {
    const double seconds = plan.as_object().at("step_seconds").as_double();
    EXPECT_GE(seconds, last);
    last = seconds;
  }
  EXPECT_EQ(all.at("plan"), best.front());
}

TEST_F(PlanCommand, SearchKeepsTheAxesThatAreGiven) {
  const boost::json::object all = json({"--gpus", "64", "--search", "--set", "parallel.pipeline=4"});
  for (const auto& plan : all.at("best").as_array())
    EXPECT_EQ(plan.as_object().at("layout").as_object().at("pipeline").as_int64(), 4);
}

TEST_F(PlanCommand, InvalidLayoutsAreRefusedWithTheRuleAndTheNearest) {
  const auto refused = [&](const std::string& setting, const std::vector<std::string>& parts) {
    expect_failure(plan({"--gpus", "64", "--set", setting}), 2, parts);
  };
  refused("parallel.tensor=3", {"64 ranks", "tensor 3", "nearest valid: 63 or 66"});
  refused("parallel.tensor=64", {"parallel.tensor = 64 does not divide model.heads = 32", "nearest valid: 32"});
  refused("parallel.pipeline=64", {"parallel.pipeline = 64", "model.layers = 32", "nearest valid: 32"});
  refused("parallel.expert=2", {"parallel.expert = 2", "no experts"});
  refused("train.global_batch=100", {"parallel.data = 64", "train.global_batch = 100", "nearest valid: 50 or 100"});
  refused("train.micro_batch=16", {"train.micro_batch = 16", "8 sequences", "nearest valid: 8"});
  refused("parallel.data=8", {"64 ranks", "parallel.data = 8"});
  refused("parallel.virtual_stages=3", {"parallel.virtual_stages = 3", "parallel.pipeline = 1", "nearest valid: 1"});
  refused("parallel.zero=4", {"parallel.zero"});
  refused("parallel.tensr=4", {"parallel.tensr", "did you mean \"parallel.tensor\"?"});
  expect_failure(plan({"--gpus", "64", "--search", "--set", "parallel.tensor=5"}), 2, {"parallel.tensor = 5"});
}

TEST_F(PlanCommand, BadArgumentsAreNamed) {
  expect_failure(plan({}), 2, {"--gpus", "troupe plan --help"});
  expect_failure(plan({"--gpus", "0"}), 2, {"--gpus"});
  expect_failure(plan({"--gpus", "8", "--device", "h1000"}), 2, {"--device", "h1000", "h100, h200, cpu"});
  expect_failure(plan({"--gpus", "8", "--memory", "-1"}), 2, {"--memory"});
  expect_failure(troupe({"plan", "none.toml", "--gpus", "8"}), 2, {"none.toml", "No such file"});
}

TEST_F(PlanCommand, WhereALayoutDoesNotFitItSaysWhatOfItWould) {
  const std::vector<std::string> arguments{"--gpus", "64", "--memory", "16"};
  const Outcome outcome = plan(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.out, HasSubstr("DOES NOT FIT"));
  EXPECT_THAT(outcome.out, HasSubstr("what fits: ZeRO 3"));
  const boost::json::object all = json(arguments);
  EXPECT_FALSE(all.at("plan").as_object().at("memory").as_object().at("fits").as_bool());
  EXPECT_TRUE(all.at("what_fits").as_object().at("memory").as_object().at("fits").as_bool());
}

TEST_F(PlanCommand, WhatDoesNotFitIsSaid) {
  const Outcome one = plan({"--gpus", "1", "--memory", "16"});
  EXPECT_EQ(one.exit_code, 0) << describe(one);
  EXPECT_THAT(one.out, HasSubstr("DOES NOT FIT"));
  expect_failure(plan({"--gpus", "1", "--memory", "16", "--search"}), 1, {"fits into 16.0 GiB", "the smallest takes"});
}

TEST_F(PlanCommand, AConfigThatTrainsCanBePlannedForThisMachine) {
  const Outcome outcome = troupe({"plan", "small.toml", "--gpus", "2", "--device", "cpu"});
  EXPECT_EQ(outcome.exit_code, 0) << describe(outcome);
  EXPECT_THAT(outcome.out, HasSubstr("2 × cpu"));
}

}  // namespace
}  // namespace troupe::e2e
