#include "runtime/actor/wire.h"

#include <algorithm>

namespace troupe::actor {

BytesWriter& BytesWriter::number(uint64_t value) {
  for (int i = 0; i < 8; ++i) body_.words.push_back(static_cast<std::byte>(value >> (8 * i)));
  return *this;
}

BytesWriter& BytesWriter::text(std::string_view value) {
  number(value.size());
  const auto bytes = std::as_bytes(std::span(value));
  body_.words.insert(body_.words.end(), bytes.begin(), bytes.end());
  body_.words.resize((body_.words.size() + 7) / 8 * 8);
  return *this;
}

uint64_t BytesReader::number() {
  if (left_.size() < 8) {
    ok_ = false;
    return 0;
  }
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= static_cast<uint64_t>(left_[i]) << (8 * i);
  left_ = left_.subspan(8);
  return value;
}

std::string BytesReader::text() {
  const uint64_t size = number();
  if (!ok_ || size > left_.size() || (size + 7) / 8 * 8 > left_.size()) {
    ok_ = false;
    return {};
  }
  std::string value(reinterpret_cast<const char*>(left_.data()), size);
  left_ = left_.subspan((size + 7) / 8 * 8);
  return value;
}

net::Body encode_error(const Error& error) {
  return BytesWriter().number(static_cast<uint64_t>(error.exit_code())).text(error.message()).take();
}

Error decode_error(const net::Body& body) {
  BytesReader reader(body);
  const uint64_t code = reader.number();
  std::string message = reader.text();
  if (!reader.complete()) return failed("an error that came malformed");
  for (const ErrorKind kind : {ErrorKind::usage, ErrorKind::environment, ErrorKind::damaged, ErrorKind::interrupted}) {
    if (static_cast<uint64_t>(kind) == code) return {kind, std::move(message)};
  }
  return {ErrorKind::failed, std::move(message)};
}

Result<std::string> Wire<std::string>::decode(const net::Body& body) {
  BytesReader reader(body);
  std::string value = reader.text();
  if (!reader.complete()) return failed("malformed message: not a text");
  return value;
}

Result<wire::Buffer> Wire<wire::Buffer>::decode(const net::Body& body) {
  if (body.buffers.size() != 1 || !body.words.empty()) return failed("malformed message: not one buffer");
  return body.buffers[0];
}

Result<Address> Wire<Address>::decode(const net::Body& body) {
  BytesReader reader(body);
  Address address;
  address.node = reader.number();
  address.actor = reader.number();
  address.name = reader.text();
  if (!reader.complete()) return failed("malformed message: not an address");
  return address;
}

}  // namespace troupe::actor
