// Layouts that cannot be, drawn by seed: each is refused in one line that names a key, and none ends in a crash.
#include <gtest/gtest.h>

#include <set>

#include "parallel/mesh/layout_options.h"
#include "runtime/base/random.h"

namespace troupe::parallel {
namespace {

struct Drawn {
  std::string text;  // of the section [parallel]
  DecoderConfig model;
  StepShape shape;
  std::optional<int> ranks;
};

class Draw {
 public:
  explicit Draw(uint64_t seed) : random_{.key = derive_key(seed, hash_name("invalid layout"))} {}

  Drawn operator()() {
    Drawn d;
    d.model.vocabulary = 100;
    d.model.layers = one_of({1, 2, 3, 8});
    d.model.heads = one_of({1, 2, 4, 6, 12});
    d.model.kv_heads = d.model.heads % 2 == 0 ? one_of({d.model.heads, d.model.heads / 2}) : d.model.heads;
    d.model.width = 8 * d.model.heads;
    d.model.hidden = one_of({32, 48, 50});
    if (one_of({0, 1}) == 1) {
      d.model.experts.count = one_of({2, 8, 12});
      d.model.experts.hidden = one_of({16, 24});
      d.model.experts.shared = one_of({0, 1});
    }
    d.shape = {one_of({1, 4, 6, 8, 30}), one_of({1, 5, 16, 64}), one_of({0, 1, 2, 3, 5})};
    for (const char* axis : {"pipeline", "data", "context", "tensor", "expert", "expert_tensor"}) {
      if (one_of({0, 0, 1}) == 1) add(d, axis, size());
    }
    if (one_of({0, 1}) == 1) add(d, "zero", fmt::format("{}", one_of({-1, 0, 1, 2, 3, 4, 7})));
    if (one_of({0, 1}) == 1)
      add(d, "schedule", choice({"\"gpipe\"", "\"1f1b\"", "\"interleaved\"", "\"zigzag\"", "1", "\"\""}));
    if (one_of({0, 0, 1}) == 1) add(d, "virtual_stages", fmt::format("{}", one_of({-1, 0, 1, 2, 3, 16})));
    if (one_of({0, 1, 1}) == 1) d.ranks = static_cast<int>(one_of({1, 2, 6, 8, 16, 97}));
    return d;
  }

 private:
  int64_t one_of(std::initializer_list<int64_t> values) { return *(values.begin() + random_.below(values.size())); }
  std::string choice(std::initializer_list<const char*> values) {
    return *(values.begin() + random_.below(values.size()));
  }
  std::string size() {
    return choice({"1", "2", "3", "4", "6", "8", "64", "2147483647", "99999999999", "0", "-2", "\"auto\"", "\"most\"",
                   "1.5", "true", "[2]"});
  }
  static void add(Drawn& d, const char* key, const std::string& value) {
    d.text += fmt::format("{} = {}\n", key, value);
  }

  RandomStream random_;
};

// "": it is valid. Else why not.
std::string verdict(Drawn d) {
  Config config = *Config::parse("[parallel]\n" + d.text, "drawn.toml");
  const LayoutOptions options = read_layout_options(config);
  Status status = config.finish();
  if (status.ok()) {
    EXPECT_TRUE(d.model.complete().ok());
    const auto layout = resolve_layout(options, d.ranks, d.model, d.shape);
    if (layout.ok()) {
      // What is said to be valid is a mesh.
      const Mesh mesh(layout->mesh, layout->mesh.ranks() - 1);
      EXPECT_EQ(mesh.world_size(), d.ranks.value_or(mesh.world_size())) << d.text;
      EXPECT_TRUE(check(layout->pipeline(d.shape.microbatches(layout->mesh)), static_cast<int>(d.model.layers)).ok());
      return "";
    }
    status = layout.error();
  }
  EXPECT_EQ(status.error().exit_code(), 2) << d.text;
  return status.error().message();
}

TEST(InvalidLayouts, AreRefusedInOneLineThatNamesAKey) {
  std::set<std::string> invalid, messages;
  int valid = 0;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    const Drawn drawn = Draw(seed)();
    const std::string why = verdict(drawn);
    if (why.empty()) {
      ++valid;
      continue;
    }
    invalid.insert(drawn.text);
    messages.insert(why);
    EXPECT_EQ(why.find('\n'), std::string::npos) << why;
    const bool names_key = why.find("parallel.") != std::string::npos || why.find("train.") != std::string::npos;
    EXPECT_TRUE(names_key) << why << "\nof\n" << drawn.text;
  }
  EXPECT_GE(invalid.size(), 100u);
  EXPECT_GE(messages.size(), 100u);
  EXPECT_GE(valid, 20) << "the rules leave something over";
}

// The message says what to take instead; taken, the same rule does not complain again.
TEST(InvalidLayouts, WhatIsNearestIsValid) {
  DecoderConfig m;
  m.vocabulary = 100;
  m.layers = 8;
  m.heads = 12;
  m.kv_heads = 4;
  m.width = 96;
  m.hidden = 48;
  ASSERT_TRUE(m.complete().ok());
  const auto why = [&](const std::string& key, int64_t value) {
    return verdict({fmt::format("{} = {}\n", key, value), m, {.global_batch = 24, .sequence_length = 16}, {}});
  };
  int tried = 0;
  for (const std::string key : {"tensor", "pipeline", "data", "context"}) {
    for (int64_t value = 2; value <= 40; ++value) {
      const std::string message = why(key, value);
      const std::string_view mark = "nearest valid: ";
      const size_t at = message.find(mark);
      if (at == std::string::npos) {
        EXPECT_EQ(message, "");
        continue;
      }
      EXPECT_EQ(why(key, std::stoll(message.substr(at + mark.size()))), "") << message;
      ++tried;
    }
  }
  EXPECT_GE(tried, 60);
}

}  // namespace
}  // namespace troupe::parallel
