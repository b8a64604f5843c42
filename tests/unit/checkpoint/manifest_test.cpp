#include "checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/random.h"

namespace troupe::checkpoint {
namespace {

using kernels::DType;
using testing::HasSubstr;

Manifest example() {
  Manifest m;
  m.step = 120;
  m.sequences = 960;
  m.seed = ~uint64_t{0};
  m.generation = 3;
  m.config = "[model]\npreset = \"nano\" # \"checksum\": \"0\"\n,\n  \"checksum\": \"";
  m.labels = {{"tokenizer", "0123456789abcdef"}, {"nul", std::string("a\0b", 3)}};
  m.files = {{"shard-00000.h5", 9'000'000}, {"tokenizer/tokenizer.toml", 7}};
  m.tensors = {{"model/w", DType::bf16, {3, 5}, "shard-00000.h5", 2048, 30, {0xFFFFFFFFFFFFFFFF}},
               {"optimizer/first_moment/w", DType::f32, {2, 1'048'576}, "shard-00000.h5", 4096, 8'388'608, {1, 2}},
               {"model/scalar", DType::f64, {}, "shard-00000.h5", 2080, 8, {7}}};
  return m;
}

// The text with the right checksum, whatever it says: damage that no checksum finds.
std::string signed_again(const std::string& text) {
  const std::string key = ",\n  \"checksum\": \"";
  const std::string body = text.substr(0, text.rfind(key));
  return body + key + fmt::format("{:016x}\"\n}}\n", checksum_of(body.data(), body.size()));
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  TROUPE_CHECK(at != std::string::npos, "{}", from);
  return signed_again(text.replace(at, from.size(), to));
}

void expect_refused(const std::string& text, std::string_view why) {
  const auto parsed = Manifest::parse(text);
  ASSERT_FALSE(parsed.ok()) << why;
  EXPECT_EQ(parsed.error().kind(), ErrorKind::damaged);
  EXPECT_THAT(parsed.error().message(), HasSubstr(std::string(why)));
  EXPECT_EQ(parsed.error().message().find('\n'), std::string::npos);
}

TEST(Manifest, ReadsBackWhatItWrote) {
  const Manifest m = example();
  const auto read = Manifest::parse(m.to_json());
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(read->to_json(), m.to_json());
  EXPECT_EQ(read->seed, m.seed);
  EXPECT_EQ(read->config, m.config);
  EXPECT_EQ(read->labels, m.labels);
  ASSERT_EQ(read->tensors.size(), 3u);
  EXPECT_EQ(read->tensors[1].shape, m.tensors[1].shape);
  EXPECT_EQ(read->tensors[0].checksums, m.tensors[0].checksums);
  EXPECT_EQ(read->find("model/scalar")->offset, 2080);
  EXPECT_EQ(read->find("model/x"), nullptr);
  const Manifest empty;
  EXPECT_TRUE(Manifest::parse(empty.to_json()).ok());
}

TEST(Manifest, AChangedByteAnywhereIsFound) {
  const std::string text = example().to_json();
  for (size_t i = 0; i < text.size(); ++i) {
    for (unsigned flip : {1u, 0x20u, 0x80u}) {
      std::string changed = text;
      changed[i] = static_cast<char>(static_cast<unsigned char>(changed[i]) ^ flip);
      const auto parsed = Manifest::parse(changed);
      ASSERT_FALSE(parsed.ok()) << "byte " << i << ", flip " << flip;
      EXPECT_EQ(parsed.error().kind(), ErrorKind::damaged);
    }
  }
}

TEST(Manifest, ACutOrLengthenedTextIsFound) {
  const std::string text = example().to_json();
  for (size_t n = 0; n < text.size(); ++n) ASSERT_FALSE(Manifest::parse(text.substr(0, n)).ok()) << n;
  EXPECT_FALSE(Manifest::parse(text + " ").ok());
  EXPECT_FALSE(Manifest::parse(text + text).ok());
}

TEST(Manifest, RefusesALaterFormat) {
  expect_refused(replaced(example().to_json(), "\"format\": 1", "\"format\": 2"),
                 "format 2; this program reads format 1");
}

TEST(Manifest, RefusesFileNamesThatLeaveTheFolder) {
  for (const char* name : {"../shard-00000.h5", "/etc/passwd", "a/../../b", "..", ""}) {
    expect_refused(
        replaced(example().to_json(), "\"name\": \"tokenizer/tokenizer.toml\"", fmt::format("\"name\": \"{}\"", name)),
        "leaves the folder");
  }
  expect_refused(replaced(example().to_json(), "tokenizer/tokenizer.toml", "a\\u0000/../b"), "leaves the folder");
}

TEST(Manifest, RefusesSizesThatContradictEachOtherOrOverflow) {
  const std::string text = example().to_json();
  const std::string_view bytes = "\"bytes\": 8388608";
  const std::string_view shape = "        2,\n        1048576\n";
  ASSERT_NE(text.find(shape), std::string::npos) << text;
  for (const char* number : {"8388607", "0", "-8388608", "9223372036854775807"}) {
    expect_refused(replaced(text, bytes, fmt::format("\"bytes\": {}", number)), "do not fit");
  }
  for (const char* sizes : {"2, 1048577", "4611686018427387904, 4611686018427387904", "4294967296, 4294967296",
                            "-2, -1048576", "9223372036854775807, 2", "4611686018427387904", "1,1,1,1,1,1,2097152"}) {
    const auto parsed = Manifest::parse(replaced(text, shape, sizes));
    ASSERT_FALSE(parsed.ok()) << sizes;
    EXPECT_THAT(parsed.error().message(), HasSubstr("optimizer/first_moment/w"));
  }
  for (const char* offset : {"9000000", "-1", "9223372036854775807", "8999999"}) {
    expect_refused(replaced(text, "\"offset\": 4096", fmt::format("\"offset\": {}", offset)), "do not fit");
  }
  for (const char* size : {"-1", "-9223372036854775808", "9223372036854775807"}) {
    expect_refused(replaced(text, "\"bytes\": 9000000", fmt::format("\"bytes\": {}", size)), "shard-00000.h5 of");
  }
  expect_refused(replaced(text, "\"file\": \"shard-00000.h5\"", "\"file\": \"shard-00001.h5\""), "do not fit");
  expect_refused(replaced(text, "\"dtype\": \"bf16\"", "\"dtype\": \"f16\""), "unknown dtype");
  expect_refused(replaced(text, "\"ffffffffffffffff\"", "\"fffffffffffffffff\""), "checksum");
  expect_refused(replaced(text, "\"ffffffffffffffff\"", "\"ffff-\""), "checksum");
}

TEST(Manifest, RefusesMissingMembersAndWrongTypes) {
  const std::string text = example().to_json();
  for (const char* member : {"\"step\"", "\"sequences\"", "\"seed\"", "\"config\"", "\"labels\"", "\"files\"",
                             "\"tensors\"", "\"shape\"", "\"checksums\"", "\"dtype\""}) {
    expect_refused(replaced(text, member, "\"other\""), "missing or of the wrong type");
  }
  expect_refused(replaced(text, "\"step\": 120", "\"step\": 120.5"), "wrong type");
  expect_refused(replaced(text, "\"step\": 120", "\"step\": \"120\""), "wrong type");
  expect_refused(signed_again("[1" + std::string(",\n  \"checksum\": \"")), "");
}

// Valid checksums over changed texts: whatever is still accepted keeps every promise that reading relies on.
TEST(Manifest, SurvivesAnyTextWithARightChecksum) {
  const std::string text = example().to_json();
  RandomStream random{.key = 17};
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string changed = text;
    for (uint64_t edits = 1 + random.below(3); edits > 0; --edits) {
      const size_t at = random.below(changed.size());
      switch (random.below(4)) {
        case 0: changed[at] = static_cast<char>(random.below(256)); break;
        case 1: changed.erase(at, 1 + random.below(20)); break;
        case 2: changed.insert(at, 1, "0123456789-[]{}\",:eE."[random.below(21)]); break;
        default: changed.insert(at, changed.substr(random.below(changed.size()), random.below(30)));
      }
    }
    const auto parsed = Manifest::parse(signed_again(changed));
    if (!parsed.ok()) continue;
    ++accepted;
    for (const TensorRecord& t : parsed->tensors) {
      ASSERT_EQ(t.bytes, t.shape.elements() * kernels::size_of(t.dtype));
      ASSERT_GE(t.offset, 0);
      ASSERT_EQ(static_cast<int64_t>(t.checksums.size()), (t.bytes + kChunkBytes - 1) / kChunkBytes);
      bool inside = false;
      for (const FileRecord& f : parsed->files) inside |= f.name == t.file && t.offset + t.bytes <= f.bytes;
      ASSERT_TRUE(inside);
    }
  }
  EXPECT_GT(accepted, 100);  // else the edits are too rough to test anything
}

}  // namespace
}  // namespace troupe::checkpoint
