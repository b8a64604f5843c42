#include "actors/data/training_data.h"

#include <gmock/gmock.h>

#include "tests/unit/data/data_test_support.h"

namespace troupe::data {
namespace {

class TrainingDataTest : public DataTest {
 protected:
  DataOptions options(std::vector<std::string> train, std::string tokenizer = "bytes") const {
    DataOptions result;
    result.train = std::move(train);
    result.tokenizer = std::move(tokenizer);
    result.cache = path("cache");
    return result;
  }
  Result<TrainingData> open(const DataOptions& options, int64_t T) {
    const auto tokenizer = TROUPE_TRY(open_tokenizer(options));
    ThreadPool pool(2);
    return open_training_data(files_, options, *tokenizer, T, 1, pool);
  }
  std::string error(const DataOptions& options, int64_t T) {
    const auto data = open(options, T);
    if (data.ok()) return "no error";
    kind_ = data.error().kind();
    return data.error().message();
  }

  PosixFileSystem files_;
  ErrorKind kind_ = ErrorKind::failed;
};

std::string config_error(std::string_view text) {
  Config config = Config::parse(text, "c.toml").value();
  (void)read_data_options(config);
  const Status status = config.finish();
  return status.ok() ? "no error" : status.error().message();
}

TEST(DataOptions, ComeFromTheConfig) {
  Config config = Config::parse(R"(
[data]
train = "corpus"
validation = ["a.txt", "b.txt"]
validation_fraction = 0.1
tokenizer = "characters"
field = "{q} {a}"
separator = "\n\n"
document_mask = true
restart_positions = true
sampling = "random"
cache = "/tmp/tokens"
verify = false
)",
                                "c.toml")
                      .value();
  const DataOptions options = read_data_options(config);
  ASSERT_TRUE(config.finish().ok()) << config.finish().error().message();
  EXPECT_EQ(options.train, std::vector<std::string>{"corpus"});
  EXPECT_EQ(options.validation, (std::vector<std::string>{"a.txt", "b.txt"}));
  EXPECT_EQ(options.validation_fraction, 0.1);
  EXPECT_EQ(options.tokenizer, "characters");
  EXPECT_EQ(options.field, "{q} {a}");
  EXPECT_EQ(options.separator, "\n\n");
  EXPECT_TRUE(options.document_mask);
  EXPECT_TRUE(options.restart_positions);
  EXPECT_EQ(options.sampling, Sampling::random);
  EXPECT_EQ(options.cache, "/tmp/tokens");
  EXPECT_FALSE(options.verify);
}

TEST(DataOptions, TakeAMixtureInsteadOfOnePath) {
  Config config = Config::parse(R"(
[[data.mixture]]
path = "a"
weight = 3
[[data.mixture]]
path = ["b", "c"]
)",
                                "c.toml")
                      .value();
  const DataOptions options = read_data_options(config);
  ASSERT_TRUE(config.finish().ok()) << config.finish().error().message();
  ASSERT_EQ(options.mixture.size(), 2u);
  EXPECT_EQ(options.mixture[0].weight, 3);
  EXPECT_EQ(options.mixture[1].path, (std::vector<std::string>{"b", "c"}));
  EXPECT_EQ(options.mixture[1].weight, 1);
}

TEST(DataOptions, SayWhatIsWrongWithThem) {
  EXPECT_THAT(config_error("[data]\n"), testing::HasSubstr("data.train"));
  EXPECT_THAT(config_error("[data]\ntrain = \"a\"\n[[data.mixture]]\npath = \"b\"\n"),
              testing::HasSubstr("one of the two"));
  EXPECT_THAT(config_error("[data]\ntrain = \"a\"\nfield = \"{a\"\n"), testing::HasSubstr("template \"{a\""));
  EXPECT_THAT(config_error("[data]\ntrain = \"a\"\nvalidation_fraction = 1.0\n"), testing::HasSubstr("c.toml:3"));
  EXPECT_THAT(config_error("[data]\ntrain = \"a\"\nsampling = \"shufled\"\n"), testing::HasSubstr("shuffled"));
  EXPECT_THAT(config_error("[data]\ntrian = \"a\"\n"), testing::HasSubstr("trian"));
  EXPECT_THAT(config_error("[[data.mixture]]\nweight = 1\n"), testing::HasSubstr("path"));
  EXPECT_THAT(config_error("[[data.mixture]]\npath = \"a\"\nweight = 0\n"), testing::HasSubstr("weight"));
}

TEST_F(TrainingDataTest, StopsWhileATokenizerLearnsItsCharacters) {
  int fragments = 0;
  const auto stopped = open_tokenizer(options({write("a.txt", std::string(5'000'000, 'a'))}, "characters"),
                                      [&] { return ++fragments > 2; });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().kind(), ErrorKind::interrupted);
  EXPECT_EQ(fragments, 3);
}

TEST_F(TrainingDataTest, HoldsOutTheTailOfOneText) {
  DataOptions o = options({write("a.txt", words(1000))}, "characters");
  o.validation_fraction = 0.1;
  const auto data = open(o, 16);
  ASSERT_TRUE(data.ok()) << data.error().message();
  EXPECT_EQ(data->train_tokens, 900);
  ASSERT_TRUE(data->validation.has_value());
  EXPECT_EQ(data->validation->target_count(), 99);
  EXPECT_EQ(data->validation->text_bytes(), 99);
  o.validation_fraction = 0;
  EXPECT_FALSE(open(o, 16)->validation.has_value());
}

TEST_F(TrainingDataTest, TakesValidationFromItsOwnFiles) {
  DataOptions o = options({write("a.txt", words(1000))}, "characters");
  o.validation = {write("b.txt", words(50) + "\xC3\xA9")};
  const auto data = open(o, 16);
  ASSERT_TRUE(data.ok()) << data.error().message();
  EXPECT_EQ(data->train_tokens, 1000);
  EXPECT_EQ(data->validation->target_count(), 50);
  EXPECT_EQ(data->validation->text_bytes(), 51);
}

TEST_F(TrainingDataTest, MixesDatasetsAndHoldsOutATailOfEach) {
  DataOptions o = options({});
  o.mixture = {{{write("a.txt", words(1000))}, 1}, {{write("b.txt", words(3000, 2))}, 3}};
  o.validation_fraction = 0.1;
  const auto data = open(o, 16);
  ASSERT_TRUE(data.ok()) << data.error().message();
  EXPECT_EQ(data->train_tokens, 3600);
  EXPECT_EQ(data->validation->target_count(), 99 + 299);
  int64_t from_a = 0;
  for (int64_t i = 0; i < 400; ++i) from_a += data->sampler.place(i).dataset == 0;
  EXPECT_EQ(from_a, 100);
}

TEST_F(TrainingDataTest, SaysInOneLineWhatIsMissing) {
  EXPECT_EQ(error(options({path("none.txt")}), 16), "data.train: " + path("none.txt") + ": no such file or folder");
  EXPECT_EQ(kind_, ErrorKind::usage);
  const std::string empty = write("empty.txt", "");
  EXPECT_EQ(error(options({empty}), 16), "data.train: " + empty + ": the file is empty");
  EXPECT_EQ(kind_, ErrorKind::usage);
  const std::string small = write("small.txt", words(20));
  EXPECT_EQ(error(options({small}), 64), "data.train (" + small +
                                             ") has 19 tokens of 20 left to train on; train.sequence_length = 64 "
                                             "needs at least 65");
  EXPECT_EQ(kind_, ErrorKind::usage);
  DataOptions o = options({write("a.txt", words(1000))});
  o.validation = {path("none.txt")};
  EXPECT_EQ(error(o, 16), "data.validation: " + path("none.txt") + ": no such file or folder");
  o = options({path("none.txt")}, "characters");
  EXPECT_EQ(error(o, 16), "data.tokenizer: " + path("none.txt") + ": no such file or folder");
}

}  // namespace
}  // namespace troupe::data
