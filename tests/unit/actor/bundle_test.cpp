// Several parcels as the bytes of one frame, and back.
#include "runtime/actor/bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe::actor {
namespace {

using wire::FrameKind;

class Target : public Actor {
 public:
  std::string name(std::string prefix) const { return prefix; }
  using Protocol = Methods<&Target::name>;
};
using Named = SharedCall<&Target::name>;

net::Parcel message(uint64_t actor, uint64_t ask, const std::shared_ptr<const Named::Shared>& shared) {
  net::Parcel parcel;
  parcel.header = {.destination = actor, .ask = ask, .trace = ask + 100, .time_left_ns = 5};
  parcel.body = Named(shared).encode();
  return parcel;
}

// What a link that sends bytes makes of them, taken apart again.
Result<std::vector<net::Parcel>> unpack(net::Parcel parcel) {
  std::vector<net::Parcel> parcels;
  TROUPE_TRY(unpack_bundle(
      std::move(parcel), [&](net::Parcel& one) { parcels.push_back({one.header, std::move(one.payload), one.body}); }));
  return parcels;
}

net::Parcel answer(uint64_t ask, std::string_view words, FrameKind kind = FrameKind::reply) {
  net::Parcel parcel;
  parcel.header = {.kind = kind, .ask = ask};
  parcel.body = Wire<std::string>::encode(std::string(words));
  return parcel;
}

TEST(Bundle, MessagesKeepWhomTheyAreForAndWhatIsAsked) {
  const auto shared = std::make_shared<const Named::Shared>(std::tuple<std::string>("x"));
  std::vector<net::Parcel> bundle;
  for (uint64_t i = 1; i <= 3; ++i) bundle.push_back(message(i, 10 * i, shared));
  net::Parcel parcel = pack_bundle(bundle);
  ASSERT_TRUE(is_bundle(parcel.header));
  EXPECT_EQ(parcel.header.time_left_ns, 5);
  const auto parcels = unpack(std::move(parcel));
  ASSERT_TRUE(parcels.ok()) << parcels.error().message();
  ASSERT_EQ(parcels->size(), 3u);
  for (uint64_t i = 1; i <= 3; ++i) {
    const net::Parcel& one = parcels->at(i - 1);
    EXPECT_FALSE(is_bundle(one.header));
    EXPECT_EQ(one.header.destination, i);
    EXPECT_EQ(one.header.ask, 10 * i);
    EXPECT_EQ(one.header.trace, 10 * i + 100);
    EXPECT_EQ(one.header.time_left_ns, 5);
    EXPECT_EQ(Wire<std::string>::decode(one.body).value(), "x");
  }
}

TEST(Bundle, AnswersKeepTheirKindWordsAndBuffers) {
  std::span<std::byte> bytes;
  const wire::Buffer large = wire::Buffer::allocate(100, &bytes);
  std::vector<net::Parcel> bundle;
  bundle.push_back(answer(1, "no", FrameKind::error));
  net::Parcel with_buffers = answer(2, "");
  with_buffers.body.buffers = {large, large};
  bundle.push_back(std::move(with_buffers));
  bundle.push_back(answer(3, "yes"));
  net::Parcel parcel = pack_bundle(bundle);
  ASSERT_TRUE(is_bundle(parcel.header));
  const auto parcels = unpack(std::move(parcel));
  ASSERT_TRUE(parcels.ok()) << parcels.error().message();
  ASSERT_EQ(parcels->size(), 3u);
  EXPECT_EQ(parcels->at(0).header.kind, FrameKind::error);
  EXPECT_EQ(Wire<std::string>::decode(parcels->at(0).body).value(), "no");
  EXPECT_EQ(parcels->at(1).body.buffers.size(), 2u);
  EXPECT_EQ(parcels->at(2).header.ask, 3u);
  EXPECT_EQ(Wire<std::string>::decode(parcels->at(2).body).value(), "yes");
}

TEST(Bundle, BytesThatAreCutOffAtAnyPlaceAreRefused) {
  std::vector<net::Parcel> bundle;
  bundle.push_back(answer(1, "some words"));
  bundle.push_back(answer(2, "others"));
  const net::Parcel whole = pack_bundle(bundle);
  const size_t size = whole.body.words.size();
  int refused = 0;
  for (size_t cut = 1; cut < size; ++cut) {
    net::Parcel parcel;
    parcel.header = whole.header;
    parcel.body.words.assign(whole.body.words.begin(), whole.body.words.begin() + static_cast<std::ptrdiff_t>(cut));
    const auto parcels = unpack(std::move(parcel));
    if (parcels.ok()) EXPECT_EQ(parcels->size(), 1u) << cut;
    else ++refused;
  }
  EXPECT_GE(refused, static_cast<int>(size) - 2);
}

TEST(Bundle, AListOfActorsThatIsCutOffIsRefused) {
  const auto shared = std::make_shared<const Named::Shared>(std::tuple<std::string>("x"));
  std::vector<net::Parcel> bundle;
  for (uint64_t i = 1; i <= 2; ++i) bundle.push_back(message(i, i, shared));
  const net::Parcel whole = pack_bundle(bundle);
  const wire::Buffer& list = whole.body.buffers.back();
  for (size_t cut = 0; cut < list.size(); ++cut) {
    net::Parcel parcel;
    parcel.header = whole.header;
    parcel.body.words = whole.body.words;
    parcel.body.buffers = {wire::Buffer(list.bytes().first(cut), nullptr)};
    EXPECT_EQ(unpack(std::move(parcel)).ok(), cut == list.size() / 2) << cut;
  }
  net::Parcel nobody;
  nobody.header = {.kind = FrameKind::message};
  EXPECT_FALSE(unpack(std::move(nobody)).ok());
}

TEST(Bundle, ObjectsStayWhatTheyAre) {
  const auto shared = std::make_shared<const Named::Shared>(std::tuple<std::string>("x"));
  std::vector<net::Parcel> bundle;
  for (uint64_t i = 1; i <= 2; ++i) {
    bundle.push_back({.header = {.destination = i}, .payload = std::make_unique<Named>(shared), .body = {}});
  }
  const net::Payload* first = bundle[0].payload.get();
  const auto parcels = unpack(pack_bundle(bundle));
  ASSERT_EQ(parcels->size(), 2u);
  EXPECT_EQ(parcels->at(0).payload.get(), first);
}

}  // namespace
}  // namespace troupe::actor
