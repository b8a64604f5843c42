// Cap'n Proto messages as a Body's words: serialisation only. Schemas lie beside the actors that speak them
// (troupe_capnp in CMake); this header comes before the generated ones.
//
//   Body body = to_body(builder);                                       // a capnp::MallocMessageBuilder
//   return from_body<schema::Plan>(body, [](schema::Plan::Reader plan) -> Result<Plan> { … });
#pragma once
#include "runtime/wire/capnp_shim.h"
// The shim comes first.
#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include "runtime/base/result.h"
#include "runtime/wire/body.h"

namespace troupe::wire {

// Copies once. No buffers.
Body to_body(capnp::MessageBuilder& message);

// Limits that make reading cost at most a small multiple of the message's own size, and recursion stay flat.
capnp::ReaderOptions reader_options(const Body& body);

// Hands the message's root to `convert`, which returns a Result; pointers into the message die with the call, the
// body's buffers do not. Errors: the bytes are no such message, point outside it, or are nested too deeply.
template <class Schema, class Convert>
auto from_body(const Body& body, Convert&& convert) -> decltype(convert(std::declval<typename Schema::Reader>())) {
  if (body.words.empty() || body.words.size() % sizeof(capnp::word) != 0) return failed("malformed message");
  try {
    // A vector's memory is aligned for words.
    const kj::ArrayPtr<const capnp::word> words(reinterpret_cast<const capnp::word*>(body.words.data()),
                                                body.words.size() / sizeof(capnp::word));
    capnp::FlatArrayMessageReader message(words, reader_options(body));
    return convert(message.getRoot<Schema>());
  } catch (const kj::Exception& exception) {
    return failed("malformed message: {}", exception.getDescription().cStr());
  }
}

}  // namespace troupe::wire
