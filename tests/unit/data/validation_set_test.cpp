#include "actors/data/validation_set.h"

#include "actors/data/tokenizer/byte_tokenizer.h"
#include "tests/unit/data/data_test_support.h"

namespace troupe::data {
namespace {

using ValidationSetTest = DataTest;

TEST_F(ValidationSetTest, HasEveryTokenButTheFirstAsATargetOnce) {
  const ByteTokenizer bytes;
  for (const int64_t tokens : {2, 3, 7, 8, 9, 64, 65, 100}) {
    std::vector<int32_t> ids(static_cast<size_t>(tokens));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    const TokenStream stream = stream_of({ids});
    for (const int64_t T : {1, 2, 7, 8, 64, 1000}) {
      const ValidationSet set = ValidationSet::create({stream}, T, bytes).value();
      const SequenceBatch batch = set.sequences(0, set.count());
      EXPECT_EQ(set.target_count(), tokens - 1);
      EXPECT_EQ(batch.target_count, tokens - 1);
      ASSERT_EQ(batch.tokens.size(), static_cast<size_t>(set.count() * T));
      int32_t next = 1;
      for (size_t i = 0; i < batch.labels.size(); ++i) {
        if (next < tokens) {
          ASSERT_EQ(batch.labels[i], next++);
          ASSERT_EQ(batch.tokens[i], batch.labels[i] - 1);
        } else {
          ASSERT_EQ(batch.labels[i], kIgnoredLabel);
        }
      }
      EXPECT_EQ(next, tokens);
      EXPECT_EQ(set.text_bytes(), tokens - 1);
    }
  }
}

TEST_F(ValidationSetTest, GivesAnyPartOfItself) {
  const ByteTokenizer bytes;
  const ValidationSet set = ValidationSet::create({counting_stream(100), counting_stream(31)}, 8, bytes).value();
  EXPECT_EQ(set.count(), 13 + 4);
  EXPECT_EQ(set.target_count(), 99 + 30);
  const SequenceBatch whole = set.sequences(0, set.count());
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < set.count(); ++i) {
    const SequenceBatch one = set.sequences(i, i + 1);
    EXPECT_EQ(one.sequence_ids, std::vector<int64_t>{i});
    labels.insert(labels.end(), one.labels.begin(), one.labels.end());
  }
  EXPECT_EQ(labels, whole.labels);
}

TEST_F(ValidationSetTest, MakesPaddingADocumentOfItsOwn) {
  const ByteTokenizer bytes;
  const ValidationSet set =
      ValidationSet::create({stream_of({{1, 2}, {3}})}, 6, bytes, {.document_mask = true, .restart_positions = true})
          .value();
  const SequenceBatch batch = set.sequences(0, 1);
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{1, 2, 0, 0, 0, 0}));
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{2, 0, 3, kIgnoredLabel, kIgnoredLabel, kIgnoredLabel}));
  EXPECT_EQ(batch.first_visible, (std::vector<int32_t>{0, 0, 2, 3, 3, 3}));
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{0, 1, 0, 0, 1, 2}));
}

TEST_F(ValidationSetTest, CountsTheBytesOfATail) {
  const ByteTokenizer bytes;
  const TokenStream stream = stream_of({{65, 66, 67}, {68, 69}, {70}}, ByteTokenizer::kEndOfText, 257);
  const TokenStream tail = stream.split_tail(0.75).second;  // 67 | end 68 69 | end 70
  const ValidationSet set = ValidationSet::create({tail}, 4, bytes).value();
  EXPECT_EQ(set.target_count(), 5);
  EXPECT_EQ(set.text_bytes(), 3) << "68, 69 and 70; separators stand for no text";
}

TEST_F(ValidationSetTest, NeedsATarget) {
  const ByteTokenizer bytes;
  const auto set = ValidationSet::create({counting_stream(1)}, 4, bytes);
  ASSERT_FALSE(set.ok());
  EXPECT_EQ(set.error().kind(), ErrorKind::usage);
}

}  // namespace
}  // namespace troupe::data
