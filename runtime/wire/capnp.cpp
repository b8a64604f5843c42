#include "runtime/wire/capnp.h"

#include <cstring>

namespace troupe::wire {

Body to_body(capnp::MessageBuilder& message) {
  Body body;
  const kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments = message.getSegmentsForOutput();
  body.words.resize(capnp::computeSerializedSizeInWords(segments) * sizeof(capnp::word));
  kj::ArrayOutputStream stream(
      kj::ArrayPtr<kj::byte>(reinterpret_cast<kj::byte*>(body.words.data()), body.words.size()));
  capnp::writeMessage(stream, segments);
  return body;
}

capnp::ReaderOptions reader_options(const Body& body) {
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 64 + 4 * (body.words.size() / sizeof(capnp::word));
  options.nestingLimit = 32;
  return options;
}

}  // namespace troupe::wire
