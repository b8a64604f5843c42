// Files for the tests of actors/data: a folder that vanishes, compressed texts, streams of known tokens.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/data/token_stream.h"

namespace troupe::data {

// Made for each test, removed with all that is in it.
class DataTest : public testing::Test {
 protected:
  DataTest();
  ~DataTest() override;

  // Writes folder()/name, folders included, and returns its path.
  std::string write(const std::string& name, std::string_view content) const;
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  const std::string& folder() const { return folder_; }

  // A stream of `documents`, with `separator` between them.
  TokenStream stream_of(const std::vector<std::vector<int32_t>>& documents, std::optional<int32_t> separator = 0,
                        int32_t vocabulary_size = 1 << 21) const;
  // One document of the ids 0, 1, … count − 1.
  TokenStream counting_stream(int64_t count) const;

 private:
  std::string folder_;
  mutable int streams_ = 0;
};

std::string gzip(std::string_view text);
std::string zstandard(std::string_view text);

// Text of `bytes` bytes in lines of words, different for each seed.
std::string words(size_t bytes, uint64_t seed = 1);

}  // namespace troupe::data
