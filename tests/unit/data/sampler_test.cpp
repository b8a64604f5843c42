#include "actors/data/sampler.h"

#include <algorithm>
#include <map>
#include <set>

#include "runtime/base/random.h"
#include "tests/unit/data/data_test_support.h"

namespace troupe::data {
namespace {

class SamplerTest : public DataTest {
 protected:
  static SamplerOptions length(int64_t T, Sampling sampling = Sampling::shuffled, uint64_t seed = 1) {
    SamplerOptions options;
    options.sequence_length = T;
    options.seed = seed;
    options.sampling = sampling;
    return options;
  }
  static Sampler sampler(std::vector<WeightedStream> streams, const SamplerOptions& options) {
    return Sampler::create(std::move(streams), options).value();
  }
};

void append(SequenceBatch& to, const SequenceBatch& from) {
  to.tokens.insert(to.tokens.end(), from.tokens.begin(), from.tokens.end());
  to.labels.insert(to.labels.end(), from.labels.begin(), from.labels.end());
  to.positions.insert(to.positions.end(), from.positions.begin(), from.positions.end());
  to.first_visible.insert(to.first_visible.end(), from.first_visible.begin(), from.first_visible.end());
  to.sequence_ids.insert(to.sequence_ids.end(), from.sequence_ids.begin(), from.sequence_ids.end());
  to.target_count += from.target_count;
}

void expect_equal(const SequenceBatch& a, const SequenceBatch& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(a.positions, b.positions);
  EXPECT_EQ(a.first_visible, b.first_visible);
  EXPECT_EQ(a.sequence_ids, b.sequence_ids);
  EXPECT_EQ(a.target_count, b.target_count);
}

TEST_F(SamplerTest, GivesWindowsOfTextWithTheNextTokenAsLabel) {
  for (const Sampling sampling : {Sampling::shuffled, Sampling::random}) {
    const Sampler s = sampler({{counting_stream(1000)}}, length(7, sampling));
    const SequenceBatch batch = s.sequences(5, 45);
    ASSERT_EQ(batch.size(), 40);
    ASSERT_EQ(batch.tokens.size(), 280u);
    EXPECT_EQ(batch.target_count, 280);
    EXPECT_TRUE(batch.first_visible.empty());
    for (size_t b = 0; b < 40; ++b) {
      EXPECT_EQ(batch.sequence_ids[b], static_cast<int64_t>(b) + 5);
      for (size_t t = 0; t < 7; ++t) {
        EXPECT_EQ(batch.tokens[7 * b + t], batch.tokens[7 * b] + static_cast<int32_t>(t));
        EXPECT_EQ(batch.labels[7 * b + t], batch.tokens[7 * b + t] + 1);
        EXPECT_EQ(batch.positions[7 * b + t], static_cast<int32_t>(t));
      }
    }
  }
}

TEST_F(SamplerTest, ShowsEveryBlockOnceAnEpochInAnotherOrderEachTime) {
  for (const auto& [tokens, T] : std::vector<std::pair<int64_t, int64_t>>{
           {2, 1}, {10, 9}, {11, 3}, {17, 8}, {18, 8}, {1000, 7}, {1001, 10}, {4097, 64}}) {
    const Sampler s = sampler({{counting_stream(tokens)}}, length(T));
    const int64_t windows = s.windows_per_epoch(0);
    std::set<std::vector<int64_t>> orders;
    std::set<int64_t> shifts;
    for (int64_t epoch = 0; epoch < 5; ++epoch) {
      std::vector<int64_t> starts;
      for (int64_t i = epoch * windows; i < (epoch + 1) * windows; ++i) {
        EXPECT_EQ(s.place(i).epoch, epoch);
        starts.push_back(s.place(i).token);
      }
      const int64_t first = *std::min_element(starts.begin(), starts.end());
      std::vector<int64_t> order;
      for (const int64_t start : starts) order.push_back((start - first) / T);
      orders.insert(order);
      shifts.insert(first);
      std::sort(starts.begin(), starts.end());
      for (int64_t k = 0; k < windows; ++k) ASSERT_EQ(starts[static_cast<size_t>(k)], first + k * T);
      EXPECT_GE(first, 0);
      EXPECT_LE(first + windows * T, tokens - 1);
      // What an epoch leaves out lies at the two ends.
      EXPECT_LT(tokens - 1 - windows * T, 2 * T);
    }
    if (windows > 20) {
      EXPECT_EQ(orders.size(), 5u);
      EXPECT_GT(shifts.size(), 1u);
    }
  }
}

TEST_F(SamplerTest, GivesEveryRankItsPartOfTheSameOrder) {
  const std::vector<WeightedStream> streams{{stream_of({{1, 2, 3, 4, 5, 6, 7}, {8, 9, 10, 11, 12, 13}}), 2},
                                            {counting_stream(501), 1}};
  RandomStream random{.key = 9};
  for (const Sampling sampling : {Sampling::shuffled, Sampling::random}) {
    SamplerOptions options = length(5, sampling);
    options.documents.document_mask = true;
    const Sampler whole = sampler(streams, options);
    const Sampler again = sampler(streams, options);
    const SequenceBatch expected = whole.sequences(100, 164);
    for (int round = 0; round < 20; ++round) {
      SequenceBatch joined;
      int64_t begin = 100;
      while (begin < 164) {
        const int64_t end = std::min<int64_t>(164, begin + static_cast<int64_t>(random.below(20)));
        append(joined, (round % 2 == 0 ? whole : again).sequences(begin, end));
        begin = end;
      }
      expect_equal(joined, expected);
    }
  }
}

TEST_F(SamplerTest, ResumesFromTheNumberOfSequencesConsumed) {
  const TokenStream stream = counting_stream(997);
  const Sampler first = sampler({{stream}}, length(8));
  SequenceBatch uninterrupted;
  for (int64_t step = 0; step < 60; ++step) append(uninterrupted, first.sequences(12 * step, 12 * (step + 1)));
  SequenceBatch resumed;
  for (int64_t step = 0; step < 31; ++step) append(resumed, first.sequences(12 * step, 12 * (step + 1)));
  const int64_t consumed = resumed.size();
  const Sampler second = sampler({{stream}}, length(8));
  for (int64_t at = consumed; at < 720; at += 12) append(resumed, second.sequences(at, at + 12));
  expect_equal(resumed, uninterrupted);
}

TEST_F(SamplerTest, DependsOnTheSeed) {
  const TokenStream stream = counting_stream(1000);
  for (const Sampling sampling : {Sampling::shuffled, Sampling::random}) {
    EXPECT_NE(sampler({{stream}}, length(8, sampling, 1)).sequences(0, 32).tokens,
              sampler({{stream}}, length(8, sampling, 2)).sequences(0, 32).tokens);
  }
}

TEST_F(SamplerTest, StartsAnywhereInRandomMode) {
  constexpr int64_t kTokens = 40, kLength = 8, kDraws = 32000;
  const Sampler s = sampler({{counting_stream(kTokens)}}, length(kLength, Sampling::random));
  std::map<int64_t, int64_t> counts;
  for (int64_t i = 0; i < kDraws; ++i) ++counts[s.place(i).token];
  ASSERT_EQ(counts.size(), 32u) << "starts 0 … 31: the last target is the last token";
  EXPECT_EQ(counts.begin()->first, 0);
  EXPECT_EQ(counts.rbegin()->first, 31);
  // 1000 ± 6 standard deviations (31.1) of a fair draw.
  for (const auto& [start, count] : counts) EXPECT_NEAR(static_cast<double>(count), 1000.0, 187.0) << start;
}

TEST_F(SamplerTest, MixesStreamsByWeightEachWithEpochsOfItsOwn) {
  const TokenStream small = counting_stream(41);
  std::vector<int32_t> high(2000, 5000);
  const Sampler s = sampler({{small, 1}, {stream_of({high}), 3}}, length(4));
  int64_t from_small = 0;
  std::map<std::pair<int64_t, int64_t>, int64_t> seen;
  for (int64_t i = 0; i < 4000; ++i) {
    const Sampler::Place at = s.place(i);
    from_small += at.dataset == 0;
    ASSERT_LE(std::abs(static_cast<double>(from_small) - static_cast<double>(i + 1) / 4), 1.0);
    if (at.dataset == 0) ++seen[{at.epoch, at.token}];
  }
  for (const auto& [place, count] : seen) EXPECT_EQ(count, 1) << "epoch " << place.first << ", token " << place.second;
  EXPECT_EQ(seen.size(), 1000u);
}

TEST_F(SamplerTest, MarksWhereEachPositionsDocumentBegins) {
  // 1 2 3 | 0 4 5 | 0 6 7 8: the separator opens the document that follows it.
  const TokenStream stream = stream_of({{1, 2, 3}, {4, 5}, {6, 7, 8}});
  SequenceBatch batch;
  batch.sequence_length = 8;
  append_window(batch, stream, 1, 0, {.document_mask = true});
  EXPECT_EQ(batch.tokens, (std::vector<int32_t>{2, 3, 0, 4, 5, 0, 6, 7}));
  EXPECT_EQ(batch.labels, (std::vector<int32_t>{3, 0, 4, 5, 0, 6, 7, 8}));
  EXPECT_EQ(batch.first_visible, (std::vector<int32_t>{0, 0, 2, 2, 2, 5, 5, 5}));
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  SequenceBatch restarted;
  restarted.sequence_length = 8;
  append_window(restarted, stream, 1, 0, {.document_mask = true, .restart_positions = true});
  EXPECT_EQ(restarted.positions, (std::vector<int32_t>{0, 1, 0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(restarted.first_visible, batch.first_visible);
}

TEST_F(SamplerTest, FindsDocumentsInAnyWindow) {
  RandomStream random{.key = 5};
  std::vector<std::vector<int32_t>> documents;
  for (int d = 0; d < 200; ++d) documents.emplace_back(1 + random.below(30), 1);
  for (const std::optional<int32_t> separator : {std::optional<int32_t>(), std::optional<int32_t>(0)}) {
    const TokenStream stream = stream_of(documents, separator);
    for (int64_t begin = 0; begin + 50 <= stream.size(); begin += 3) {
      std::vector<int32_t> first(50);
      stream.first_visible(begin, first);
      for (int64_t t = 0; t < 50; ++t) {
        const int64_t document = stream.file().document_of(begin + t);
        ASSERT_EQ(first[static_cast<size_t>(t)], std::max<int64_t>(0, stream.file().document_begin(document) - begin));
      }
    }
  }
}

TEST_F(SamplerTest, SaysThatTheDataIsTooShort) {
  const auto s = Sampler::create({{counting_stream(8)}}, length(8));
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().kind(), ErrorKind::usage);
  EXPECT_TRUE(s.error().message().starts_with("the training data has 8 tokens, a sequence of 8 needs at least 9"));
  EXPECT_EQ(sampler({{counting_stream(9)}}, length(8)).sequences(0, 1).target_count, 8);
}

}  // namespace
}  // namespace troupe::data
