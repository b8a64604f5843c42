#include "checkpoint/manifest.h"

#include <xxhash.h>

#include <boost/json.hpp>
#include <charconv>
#include <stdexcept>

#include "runtime/base/json.h"

namespace troupe::checkpoint {
namespace {

using kernels::DType;

constexpr std::string_view kChecksumKey = ",\n  \"checksum\": \"";

Result<DType> dtype_named(std::string_view name) {
  for (DType type : {DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32, DType::u8}) {
    if (kernels::name_of(type) == name) return type;
  }
  return damaged("unknown dtype \"{}\"", name);
}

// Far above any file, and low enough that sums of a few sizes do not overflow.
constexpr int64_t kMostBytes = int64_t{1} << 60;

bool stays_inside(std::string_view name) {
  return !name.empty() && name.front() != '/' && name.find("..") == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

std::string text_of(const boost::json::value& value) {
  const boost::json::string& text = value.as_string();
  return {text.data(), text.size()};
}

uint64_t checksum_from(const std::string& hex) {
  uint64_t sum = 0;
  const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), sum, 16);
  if (error != std::errc() || end != hex.data() + hex.size()) throw std::runtime_error("a checksum is not hexadecimal");
  return sum;
}

Result<Manifest> read_members(const boost::json::object& object) {
  const int64_t format = object.at("format").to_number<int64_t>();
  if (format != kFormatVersion) return damaged("format {}; this program reads format {}", format, kFormatVersion);
  Manifest m;
  m.step = object.at("step").to_number<int64_t>();
  m.sequences = object.at("sequences").to_number<int64_t>();
  m.seed = object.at("seed").to_number<uint64_t>();
  m.generation = object.at("generation").to_number<int64_t>();
  m.config = text_of(object.at("config"));
  for (const auto& [key, value] : object.at("labels").as_object())
    m.labels[std::string(key.data(), key.size())] = text_of(value);
  std::map<std::string, int64_t> sizes;
  for (const auto& file : object.at("files").as_array()) {
    FileRecord record{text_of(file.at("name")), file.at("bytes").to_number<int64_t>()};
    if (!stays_inside(record.name)) return damaged("file name \"{}\" leaves the folder", record.name);
    if (record.bytes < 0 || record.bytes > kMostBytes) return damaged("{} of {} bytes", record.name, record.bytes);
    sizes[record.name] = record.bytes;
    m.files.push_back(std::move(record));
  }
  for (const auto& tensor : object.at("tensors").as_array()) {
    TensorRecord record;
    record.name = text_of(tensor.at("name"));
    record.dtype = TROUPE_TRY(dtype_named(text_of(tensor.at("dtype"))));
    std::vector<int64_t> dimensions;
    int64_t elements = 1;
    for (const auto& size : tensor.at("shape").as_array()) {
      dimensions.push_back(size.to_number<int64_t>());
      if (dimensions.back() < 0 || __builtin_mul_overflow(elements, dimensions.back(), &elements))
        return damaged("{}: bad shape", record.name);
    }
    if (dimensions.size() > kernels::Shape::kMaxDims)
      return damaged("{}: {} dimensions", record.name, dimensions.size());
    record.shape = kernels::Shape(dimensions);
    record.file = text_of(tensor.at("file"));
    record.offset = tensor.at("offset").to_number<int64_t>();
    record.bytes = tensor.at("bytes").to_number<int64_t>();
    for (const auto& sum : tensor.at("checksums").as_array()) record.checksums.push_back(checksum_from(text_of(sum)));
    const auto size = sizes.find(record.file);
    int64_t bytes = 0;
    if (size == sizes.end() || record.offset < 0 ||
        __builtin_mul_overflow(elements, kernels::size_of(record.dtype), &bytes) || record.bytes != bytes ||
        record.offset > size->second - bytes ||
        static_cast<int64_t>(record.checksums.size()) != (bytes + kChunkBytes - 1) / kChunkBytes) {
      return damaged("{}: its bytes do not fit its shape or its file", record.name);
    }
    m.tensors.push_back(std::move(record));
  }
  return m;
}

}  // namespace

uint64_t checksum_of(const void* bytes, size_t count) { return XXH3_64bits(bytes, count); }

const TensorRecord* Manifest::find(std::string_view tensor) const {
  for (const TensorRecord& record : tensors) {
    if (record.name == tensor) return &record;
  }
  return nullptr;
}

std::string Manifest::to_json() const {
  JsonWriter out(2);
  out.begin_object();
  out.field("format", kFormatVersion)
      .field("step", step)
      .field("sequences", sequences)
      .field("seed", seed)
      .field("generation", generation);
  out.field("config", config);
  out.key("labels").begin_object();
  for (const auto& [key, value] : labels) out.field(key, value);
  out.end_object();
  out.key("files").begin_array();
  for (const FileRecord& file : files)
    out.begin_object().field("name", file.name).field("bytes", file.bytes).end_object();
  out.end_array();
  out.key("tensors").begin_array();
  for (const TensorRecord& tensor : tensors) {
    out.begin_object().field("name", tensor.name).field("dtype", kernels::name_of(tensor.dtype));
    out.key("shape").begin_array();
    for (int64_t size : tensor.shape.sizes()) out.value(size);
    out.end_array();
    out.field("file", tensor.file).field("offset", tensor.offset).field("bytes", tensor.bytes);
    out.key("checksums").begin_array();
    for (uint64_t sum : tensor.checksums) out.value(fmt::format("{:016x}", sum));
    out.end_array().end_object();
  }
  out.end_array().end_object();
  std::string text = out.text();
  text.resize(text.rfind("\n}"));
  return text + std::string(kChecksumKey) + fmt::format("{:016x}\"\n}}\n", checksum_of(text.data(), text.size()));
}

Result<Manifest> Manifest::parse(std::string_view json) {
  const size_t at = json.rfind(kChecksumKey);
  if (at == std::string_view::npos) return damaged("no checksum at its end: cut short, or not a manifest");
  if (json.substr(at + kChecksumKey.size()) != fmt::format("{:016x}\"\n}}\n", checksum_of(json.data(), at))) {
    return damaged("its checksum does not match its text");
  }
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(boost::json::string_view(json.data(), json.size()), error);
  if (error) return damaged("not JSON: {}", error.message());
  try {
    return read_members(value.as_object());
  } catch (const std::exception& missing) {
    return damaged("a member is missing or of the wrong type ({})", missing.what());
  }
}

}  // namespace troupe::checkpoint
