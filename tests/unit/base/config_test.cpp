#include "runtime/base/config.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <fstream>

namespace troupe {
namespace {

enum class Recompute { none, attention, block };

Config parse(std::string_view text) {
  auto config = Config::parse(text, "nano.toml");
  EXPECT_TRUE(config.ok()) << config.error().message();
  return std::move(config).value();
}

// The line that a user sees, or "" if all is well.
std::string verdict(const Config& config) {
  const Status status = config.finish();
  if (status.ok()) return "";
  EXPECT_EQ(status.error().kind(), ErrorKind::usage);
  return status.error().message();
}

struct Train {
  int64_t steps = 10;
  float learning_rate = 3e-4f;
  Recompute recompute = Recompute::none;
  std::string schedule = "cosine";
};

void read_train(Config& config, Train& train) {
  config.section("train")
      .read("steps", train.steps, at_least(1))
      .read("learning_rate", train.learning_rate, above(0))
      .read_choice("recompute", train.recompute,
                   {{"none", Recompute::none}, {"attention", Recompute::attention}, {"block", Recompute::block}})
      .read_choice("schedule", train.schedule, {"cosine", "wsd"});
}

std::string train_verdict(std::string_view text) {
  Config config = parse(text);
  Train train;
  read_train(config, train);
  return verdict(config);
}

TEST(Config, ReadsEveryTypeAndLeavesDefaultsOfMissingKeys) {
  Config config = parse(R"(
title = "t"
[a]
yes = true
i32 = -7
i64 = 9_000_000_000
u64 = 0x10
f32 = 3
f64 = 2.5e-3
ints = [1, 2]
floats = [1, 2.5]
strings = ["x", "y"]
one = "alone"
)");
  bool yes = false;
  int32_t i32 = 0, untouched = 5;
  int64_t i64 = 0;
  uint64_t u64 = 0;
  float f32 = 0;
  double f64 = 0;
  std::string title;
  std::vector<int64_t> ints{9, 9, 9};
  std::vector<double> floats;
  std::vector<std::string> strings, one;
  config.section("").read("title", title);
  config.section("a")
      .read("yes", yes)
      .read("i32", i32)
      .read("i64", i64)
      .read("u64", u64)
      .read("f32", f32)
      .read("f64", f64)
      .read("ints", ints)
      .read("floats", floats)
      .read("strings", strings)
      .read("one", one)
      .read("untouched", untouched);
  EXPECT_EQ(verdict(config), "");
  EXPECT_EQ(title, "t");
  EXPECT_TRUE(yes);
  EXPECT_EQ(i32, -7);
  EXPECT_EQ(i64, 9'000'000'000);
  EXPECT_EQ(u64, 16u);
  EXPECT_EQ(f32, 3.0f);
  EXPECT_EQ(f64, 2.5e-3);
  EXPECT_EQ(ints, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(floats, (std::vector<double>{1, 2.5}));
  EXPECT_EQ(strings, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(one, (std::vector<std::string>{"alone"}));
  EXPECT_EQ(untouched, 5);
}

TEST(Config, UnknownKeyNamesLineAndNearestValidKey) {
  EXPECT_EQ(train_verdict("[train]\nsteps = 3\nlerning_rate = 1e-3\n"),
            "nano.toml:3: unknown key \"train.lerning_rate\"; did you mean \"train.learning_rate\"?");
  EXPECT_EQ(train_verdict("steps = 3\n"), "nano.toml:1: unknown key \"steps\"; did you mean \"train.steps\"?");
  EXPECT_EQ(train_verdict("[train]\nquixotic = 3\n"),
            "nano.toml:2: unknown key \"train.quixotic\"; valid here: steps, learning_rate, recompute, schedule");
}

TEST(Config, AQuotedKeyThatSpellsAPathIsUnknown) {
  EXPECT_TRUE(
      train_verdict("\"train.steps\" = 3\n").starts_with("nano.toml:1: unknown key \"'train.steps'\"; did you"));
}

TEST(Config, UnknownSectionIsReportedOnce) {
  EXPECT_EQ(train_verdict("\n[trian]\nsteps = 3\n"), "nano.toml:2: unknown section \"trian\"; did you mean \"train\"?");
  EXPECT_EQ(train_verdict("[train.deep]\nx = 3\n"), "nano.toml:1: unknown section \"train.deep\"");
}

TEST(Config, IgnoredSectionsAreNotChecked) {
  Config config = parse("[serve]\nport = 1\n");
  config.ignore("serve");
  EXPECT_EQ(verdict(config), "");
}

TEST(Config, WrongTypesSayWhatWasFoundAndWhatIsWanted) {
  EXPECT_EQ(train_verdict("[train]\nsteps = \"many\"\n"),
            "nano.toml:2: train.steps = \"many\" is a string; an integer is wanted");
  EXPECT_EQ(train_verdict("[train]\nsteps = 1e3\n"),
            "nano.toml:2: train.steps = 1000.0 is a float; an integer is wanted");
  EXPECT_EQ(train_verdict("[train]\nlearning_rate = true\n"),
            "nano.toml:2: train.learning_rate = true is a boolean; a number is wanted");
  EXPECT_EQ(train_verdict("[train]\nschedule = 3\n"),
            "nano.toml:2: train.schedule = 3 is an integer; a string is wanted");
  EXPECT_EQ(train_verdict("[train]\nschedule = 2020-01-01\n"),
            "nano.toml:2: train.schedule is a date or time; a string is wanted");
  EXPECT_EQ(train_verdict("train = 3\n"), "nano.toml:1: train = 3 is an integer; a section [train] is wanted");
  EXPECT_EQ(train_verdict("[train.steps]\n"), "nano.toml:1: train.steps is a section; an integer is wanted");
}

TEST(Config, RangesAndChoicesAreChecked) {
  EXPECT_EQ(train_verdict("[train]\nsteps = 0\n"), "nano.toml:2: train.steps = 0; at least 1 is wanted");
  EXPECT_EQ(train_verdict("[train]\nlearning_rate = 0.0\n"),
            "nano.toml:2: train.learning_rate = 0.0; above 0 is wanted");
  EXPECT_EQ(train_verdict("[train]\nlearning_rate = inf\n"),
            "nano.toml:2: train.learning_rate = inf; a finite number is wanted");
  EXPECT_EQ(train_verdict("[train]\nlearning_rate = nan\n"),
            "nano.toml:2: train.learning_rate = nan; a finite number is wanted");
  EXPECT_EQ(train_verdict("[train]\nlearning_rate = 1e99\n"),
            "nano.toml:2: train.learning_rate = 1e+99 does not fit a 32-bit float");
  EXPECT_EQ(train_verdict("[train]\nlearning_rate = 1e-99\n"),
            "nano.toml:2: train.learning_rate = 1e-99 does not fit a 32-bit float");
  EXPECT_EQ(train_verdict("[train]\nrecompute = \"blok\"\n"),
            "nano.toml:2: train.recompute = \"blok\"; \"none\", \"attention\" or \"block\" is wanted");
  EXPECT_EQ(train_verdict("[train]\nschedule = \"\"\n"),
            "nano.toml:2: train.schedule = \"\"; \"cosine\" or \"wsd\" is wanted");
}

TEST(Config, IntegersMustFitTheirType) {
  Config config = parse("a = 3_000_000_000\nb = -1\nc = [1, 99]\nd = 4\n");
  int32_t a = 1;
  uint64_t b = 2;
  config.section("").read("a", a);
  EXPECT_EQ(verdict(config), "nano.toml:1: a = 3000000000; at most 2147483647 is wanted");
  EXPECT_EQ(a, 1);
  Config other = parse("b = -1\n");
  other.section("").read("b", b);
  EXPECT_EQ(verdict(other), "nano.toml:1: b = -1; at least 0 is wanted");
  Config lists = parse("c = [1, 99]\nd = 4\n");
  std::vector<int64_t> c;
  int32_t d = 0;
  lists.section("").read("c", c, between(0, 3)).read("d", d, above(0) & at_most(3));
  EXPECT_EQ(verdict(lists), "nano.toml:1: c[1] = 99; 0 to 3 is wanted");
}

TEST(Config, AFloatOnTheBoundIsInRange) {
  Config config = parse("dropout = 0.1\n");
  float dropout = 0;
  config.section("").read("dropout", dropout, between(0, 0.1));
  EXPECT_EQ(verdict(config), "");
  EXPECT_EQ(dropout, 0.1f);
}

TEST(Config, FirstErrorByLineIsReportedWhateverTheOrderOfReading) {
  Config config = parse("[b]\nx = \"no\"\n[a]\ny = 1\nx = \"no\"\n");
  int32_t x = 0;
  std::string needed;
  config.section("a").read("x", x).read("needed", needed, required());
  config.section("b").read("x", x);
  EXPECT_EQ(verdict(config), "nano.toml:2: b.x = \"no\" is a string; an integer is wanted");
}

TEST(Config, RequiredKeysAreMissedOnlyIfNothingElseIsWrong) {
  std::string tokenizer;
  Config missing = parse("[data]\n");
  missing.section("data").read("tokenizer", tokenizer, required());
  EXPECT_EQ(verdict(missing), "nano.toml: key \"data.tokenizer\" is required");
  Config misspelt = parse("[data]\ntokeniser = \"bytes\"\n");
  misspelt.section("data").read("tokenizer", tokenizer, required());
  EXPECT_EQ(verdict(misspelt), "nano.toml:2: unknown key \"data.tokeniser\"; did you mean \"data.tokenizer\"?");
}

TEST(Config, SyntaxErrorsNameTheLine) {
  const auto broken = Config::parse("[train]\nsteps = = 3\n", "nano.toml");
  ASSERT_FALSE(broken.ok());
  EXPECT_EQ(broken.error().kind(), ErrorKind::usage);
  EXPECT_TRUE(broken.error().message().starts_with("nano.toml:2: ")) << broken.error().message();
  EXPECT_FALSE(Config::parse("a = 1\na = 2\n", "n").ok());
  EXPECT_FALSE(Config::parse("a = \"\xFF\"\n", "n").ok());
}

TEST(Config, OverridesReplaceWhatTheFileSays) {
  Config config = parse("[train]\nsteps = 3\nrecompute = \"none\"\n");
  ASSERT_TRUE(config.set("train.steps=100").ok());
  ASSERT_TRUE(config.set("train.steps = 200").ok());
  ASSERT_TRUE(config.set("train.recompute=block").ok());
  ASSERT_TRUE(config.set("train.learning_rate=1e-3").ok());
  Train train;
  read_train(config, train);
  EXPECT_EQ(verdict(config), "");
  EXPECT_EQ(train.steps, 200);
  EXPECT_EQ(train.recompute, Recompute::block);
  EXPECT_EQ(train.learning_rate, 1e-3f);
  EXPECT_EQ(config.where("train.steps"), "--set train.steps");
  EXPECT_EQ(config.where("train.recompute"), "--set train.recompute");
  EXPECT_EQ(config.where("train.schedule"), "default");
}

TEST(Config, OverridesMakeSectionsListsAndStringsOfAnything) {
  Config config = parse("");
  ASSERT_TRUE(config.set("data.train=[\"a.txt\", 'b.txt']").ok());
  ASSERT_TRUE(config.set("data.validation=/tmp/held out.txt").ok());
  ASSERT_TRUE(config.set("data.tokenizer=2024").ok());
  ASSERT_TRUE(config.set("data.schedule=1f1b").ok());
  ASSERT_TRUE(config.set("data.mixture=[{path=\"x\", weight=2}]").ok());
  std::vector<std::string> train, validation;
  std::string tokenizer, schedule, path;
  double weight = 1;
  auto data = config.section("data");
  data.read("train", train).read("validation", validation).read("tokenizer", tokenizer).read("schedule", schedule);
  for (auto& mixture : data.tables("mixture")) mixture.read("path", path).read("weight", weight);
  EXPECT_EQ(verdict(config), "");
  EXPECT_EQ(train, (std::vector<std::string>{"a.txt", "b.txt"}));
  EXPECT_EQ(validation, (std::vector<std::string>{"/tmp/held out.txt"}));
  EXPECT_EQ(tokenizer, "2024");
  EXPECT_EQ(schedule, "1f1b");
  EXPECT_EQ(path, "x");
  EXPECT_EQ(weight, 2);
  EXPECT_EQ(config.where("data.mixture[0].weight"), "--set data.mixture");
}

TEST(Config, ErrorsInOverridesPointAtThem) {
  Config config = parse("[train]\nsteps = 3\n");
  ASSERT_TRUE(config.set("train.stpes=4").ok());
  Train train;
  read_train(config, train);
  EXPECT_EQ(verdict(config), "--set train.stpes: unknown key \"train.stpes\"; did you mean \"train.steps\"?");
  Config typed = parse("");
  ASSERT_TRUE(typed.set("train.steps=many").ok());
  read_train(typed, train);
  EXPECT_EQ(verdict(typed), "--set train.steps: train.steps = \"many\" is a string; an integer is wanted");
}

TEST(Config, MalformedOverridesAreRefused) {
  Config config = parse("[train]\nsteps = 3\n");
  for (const char* bad : {"", "train.steps", "=3", "train.steps=", "train..steps=1", "a b=1", "x=\"open", "x=[1,",
                          "x={", "x=1\ny=2", "x=a\nb", "train.steps.more=1", ".x=1", "x.=1"}) {
    const Status status = config.set(bad);
    ASSERT_FALSE(status.ok()) << bad;
    EXPECT_EQ(status.error().kind(), ErrorKind::usage);
    EXPECT_TRUE(status.error().message().starts_with("--set ")) << status.error().message();
  }
}

TEST(Config, TablesAreReadOneByOneAndCheckedOneByOne) {
  const char* text = "[[data.mixture]]\npath = \"a\"\n[[data.mixture]]\npath = \"b\"\nwieght = 2\n";
  Config config = parse(text);
  std::vector<std::string> paths;
  for (auto& mixture : config.section("data").tables("mixture")) {
    double weight = 1;
    mixture.read("path", paths.emplace_back()).read("weight", weight, above(0));
  }
  EXPECT_EQ(paths, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(verdict(config),
            "nano.toml:5: unknown key \"data.mixture[1].wieght\"; did you mean \"data.mixture[1].weight\"?");
  EXPECT_EQ(config.where("data.mixture[1].path"), "nano.toml:4");
  EXPECT_EQ(config.where("data.mixture[7].path"), "default");

  Config scalar = parse("[data]\nmixture = 3\n");
  EXPECT_TRUE(scalar.section("data").tables("mixture").empty());
  EXPECT_EQ(verdict(scalar),
            "nano.toml:2: data.mixture = 3 is an integer; a list of tables [[data.mixture]] is wanted");
  Config mixed = parse("[data]\nmixture = [{}, 3]\n");
  EXPECT_EQ(mixed.section("data").tables("mixture").size(), 1u);
  EXPECT_EQ(verdict(mixed), "nano.toml:2: data.mixture[1] = 3 is an integer; a table is wanted");
}

TEST(Config, OptionalAndAutoKeysTellUnsetFromSet) {
  Config config = parse("layers = 3\ndata = \"auto\"\ntensor = 2\n");
  std::optional<int32_t> layers, heads, data = 4, tensor, context = 1, unset;
  config.section("").read("layers", layers).read("heads", heads, at_least(1));
  config.section("")
      .read_or_auto("data", data)
      .read_or_auto("tensor", tensor, at_least(1))
      .read_or_auto("context", context)
      .read_or_auto("unset", unset);
  EXPECT_EQ(verdict(config), "");
  EXPECT_EQ(layers, 3);
  EXPECT_FALSE(heads || data || unset);
  EXPECT_EQ(tensor, 2);
  EXPECT_EQ(context, 1);
  EXPECT_EQ(config.to_toml(), "layers = 3\ndata = \"auto\"\ntensor = 2\ncontext = 1\nunset = \"auto\"\n");

  Config bad = parse("data = \"all\"\n");
  bad.section("").read_or_auto("data", data);
  EXPECT_EQ(verdict(bad), "nano.toml:1: data = \"all\" is a string; an integer or \"auto\" is wanted");
  Config low = parse("data = 0\n");
  low.section("").read_or_auto("data", data, at_least(1));
  EXPECT_EQ(verdict(low), "nano.toml:1: data = 0; at least 1 is wanted");
}

TEST(Config, ResolvedTomlReadsBackToTheSameValues) {
  struct All {
    float rate = 3e-4f;
    double tenth = 0.1;
    int64_t big = INT64_MIN;
    std::string text = "line\n\"quoted\" \\ \x7F é";
    std::vector<std::string> none;
    std::vector<double> betas{0.9, 1.0};
    double weight = 1;
    bool operator==(const All&) const = default;
  };
  const auto read = [](Config& config, All& all) {
    config.section("a").read("rate", all.rate).read("tenth", all.tenth).read("big", all.big);
    config.section("a.deep").read("text", all.text).read("none", all.none).read("betas", all.betas);
    for (auto& table : config.section("a").tables("mixture")) table.read("weight", all.weight);
  };
  Config first = parse("[a]\ntenth = 1e-300\n[[a.mixture]]\nweight = 7\n");
  All before, after;
  read(first, before);
  EXPECT_EQ(before.weight, 7);
  Config second = parse(first.to_toml());
  after.rate = 0;
  after.betas.clear();
  read(second, after);
  EXPECT_EQ(verdict(second), "");
  EXPECT_EQ(before, after) << first.to_toml();
  EXPECT_EQ(second.to_toml(), first.to_toml());
  EXPECT_EQ(second.to_json(), first.to_json());

  const auto json = boost::json::parse(first.to_json());
  EXPECT_EQ(json.at("a").at("big").as_int64(), INT64_MIN);
  EXPECT_EQ(json.at("a").at("deep").at("text").as_string(), before.text.c_str());
  EXPECT_EQ(json.at("a").at("mixture").at(0).at("weight").as_double(), 7.0);
}

TEST(Config, SemanticErrorsTakeTheirPlaceAmongTheOthers) {
  Config config = parse("[parallel]\ntensor = 3\n");
  int32_t tensor = 1, heads = 8;
  config.section("parallel").read("tensor", tensor);
  config.section("model").read("heads", heads);
  config.reject("parallel.tensor", "parallel.tensor = 3 does not divide model.heads = 8; nearest valid: 2 or 4");
  EXPECT_EQ(verdict(config), "nano.toml:2: parallel.tensor = 3 does not divide model.heads = 8; nearest valid: 2 or 4");
  EXPECT_EQ(config.where("parallel.tensor"), "nano.toml:2");
  Config defaults = parse("");
  defaults.reject("model.heads", "model.heads = 8 is odd");
  EXPECT_EQ(verdict(defaults), "model.heads = 8 is odd");
}

TEST(Config, LoadNamesWhatItCannotRead) {
  const auto missing = Config::load("/nonexistent/nano.toml");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().kind(), ErrorKind::usage);
  EXPECT_EQ(missing.error().message(), "/nonexistent/nano.toml: cannot open the file: No such file or directory");
  const auto folder = Config::load(testing::TempDir());
  ASSERT_FALSE(folder.ok());
  EXPECT_NE(folder.error().message().find("is a folder"), std::string::npos);
  const std::string path = testing::TempDir() + "config_test.toml";
  std::ofstream(path) << "[train]\nsteps = 12\n";
  auto loaded = Config::load(path);
  ASSERT_TRUE(loaded.ok());
  Train train;
  read_train(*loaded, train);
  EXPECT_EQ(train.steps, 12);
  EXPECT_EQ(loaded->where("train.steps"), path + ":2");
}

}  // namespace
}  // namespace troupe
