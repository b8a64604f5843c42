#include "tests/unit/data/data_test_support.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "runtime/base/check.h"
#include "runtime/base/file.h"
#include "runtime/base/random.h"

namespace troupe::data {

DataTest::DataTest() {
  folder_ = (std::filesystem::temp_directory_path() / "troupe-data-XXXXXX").string();
  TROUPE_CHECK(::mkdtemp(folder_.data()) != nullptr);
}

DataTest::~DataTest() { std::filesystem::remove_all(folder_); }

std::string DataTest::write(const std::string& name, std::string_view content) const {
  const std::filesystem::path file = path(name);
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << content;
  return file.string();
}

TokenStream DataTest::stream_of(const std::vector<std::vector<int32_t>>& documents, std::optional<int32_t> separator,
                                int32_t vocabulary_size) const {
  PosixFileSystem files;
  const std::string name = path(fmt::format("stream-{}.tokens", streams_++));
  auto writer = TokenFileWriter::create(files, name,
                                        {.tokenizer_fingerprint = "0123456789abcdef",
                                         .input_fingerprint = 0,
                                         .separator = separator,
                                         .vocabulary_size = vocabulary_size});
  TROUPE_CHECK(writer.ok(), "{}", writer.error().message());
  for (const auto& document : documents) {
    const Status status = writer->append(document, static_cast<int64_t>(document.size()), true);
    TROUPE_CHECK(status.ok());
  }
  const Status status = writer->finish();
  TROUPE_CHECK(status.ok(), "{}", status.error().message());
  return TokenStream(TokenFile::open(name).value());
}

TokenStream DataTest::counting_stream(int64_t count) const {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  return stream_of({ids});
}

std::string gzip(std::string_view text) {
  z_stream stream{};
  constexpr int kGzip = 16;
  TROUPE_CHECK(deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + kGzip, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  TROUPE_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstandard(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string words(size_t bytes, uint64_t seed) {
  RandomStream random{.key = seed};
  std::string text;
  while (text.size() < bytes) {
    for (uint64_t letters = 1 + random.below(9); letters > 0; --letters) {
      text += static_cast<char>('a' + random.below(26));
    }
    text += random.below(8) == 0 ? '\n' : ' ';
  }
  text.resize(bytes);
  return text;
}

}  // namespace troupe::data
