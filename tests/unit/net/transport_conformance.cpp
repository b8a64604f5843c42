#include "tests/unit/net/transport_conformance.h"

#include <future>

#include "runtime/wire/bytes.h"

namespace troupe::net {
namespace {

// A cheap stream of bytes that depends on seed and place.
void fill(std::span<std::byte> bytes, uint64_t seed) {
  uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    state = state * 6364136223846793005 + 1442695040888963407;
    std::memcpy(bytes.data() + i, &state, 8);
  }
  for (; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(seed + i);
}

bool is_filled(std::span<const std::byte> bytes, uint64_t seed) {
  std::vector<std::byte> expected(bytes.size());
  fill(expected, seed);
  return std::equal(bytes.begin(), bytes.end(), expected.begin());
}

Peer self(const NodeSettings& settings) {
  auto peer = LocalNode::here(settings.name, settings.generation);
  return std::move(peer).value();
}

}  // namespace

void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }

Body TextPayload::encode() const {
  Body body;
  wire::append(body.words, wire::bytes_of(text));
  return body;
}

std::string text_of(const Parcel& parcel) {
  if (const auto* payload = dynamic_cast<const TextPayload*>(parcel.payload.get())) return payload->text;
  return std::string(wire::text_of(parcel.body.words));
}

Parcel text_parcel(std::string text, wire::FrameKind kind) {
  Parcel parcel;
  parcel.header.kind = kind;
  parcel.payload = std::make_unique<TextPayload>(std::move(text));
  return parcel;
}

Parcel bytes_parcel(size_t words_bytes, const std::vector<size_t>& buffers, uint64_t seed) {
  Parcel parcel;
  parcel.body.words.resize(words_bytes);
  fill(parcel.body.words, seed);
  for (size_t i = 0; i < buffers.size(); ++i) {
    std::span<std::byte> bytes;
    parcel.body.buffers.push_back(wire::Buffer::allocate(buffers[i], &bytes));
    fill(bytes, seed + 1 + i);
  }
  return parcel;
}

testing::AssertionResult is_bytes_parcel(const Parcel& parcel, size_t words_bytes, const std::vector<size_t>& buffers,
                                         uint64_t seed) {
  const Body& body = parcel.body;
  if (body.words.size() != words_bytes) return testing::AssertionFailure() << body.words.size() << " bytes of words";
  if (!is_filled(body.words, seed)) return testing::AssertionFailure() << "other words";
  if (body.buffers.size() != buffers.size()) return testing::AssertionFailure() << body.buffers.size() << " buffers";
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (body.buffers[i].size() != buffers[i]) {
      return testing::AssertionFailure() << "buffer " << i << " has " << body.buffers[i].size() << " bytes";
    }
    if (!is_filled(body.buffers[i].bytes(), seed + 1 + i)) {
      return testing::AssertionFailure() << "buffer " << i << " holds other bytes";
    }
  }
  return testing::AssertionSuccess();
}

void ThreadTestLoop::run(std::function<void()> work) {
  if (thread_.loop().runs_here()) return work();
  auto done = std::make_shared<std::promise<void>>();
  thread_.loop().post([work = std::move(work), done] {
    work();
    done->set_value();
  });
  if (done->get_future().wait_for(kPatience) != std::future_status::ready) {
    ADD_FAILURE() << "a loop does not answer";
    std::abort();
  }
}

bool ThreadTestLoop::wait(const std::function<bool()>& predicate) {
  std::unique_lock lock(mutex);
  return changed.wait_for(lock, kPatience, predicate);
}

Backend threaded(
    std::string name, std::string nowhere,
    std::function<std::unique_ptr<Transport>(actor::ThreadLoop&, const LocalNode&, const LinkOptions&)> make) {
  Backend backend{std::move(name), [] { return std::make_unique<ThreadTestLoop>(); }, {}, std::move(nowhere)};
  if (!make) return backend;
  backend.make = [make = std::move(make)](actor::EventLoop& loop, const LocalNode& node, const LinkOptions& options) {
    return make(dynamic_cast<actor::ThreadLoop&>(loop), node, options);
  };
  return backend;
}

TestNode::TestNode(const Backend& backend, const LinkOptions& options, const NodeSettings& settings)
    : node_(self(settings), settings.build, settings.token), loop_(backend.make_loop()) {
  run([&] { transport_ = backend.make(loop(), node_, options); });
}

TestNode::~TestNode() {
  run([this] {
    accepted_.clear();
    transport_.reset();
  });
}

void TestNode::run(std::function<void()> work) { loop_->run(std::move(work)); }

std::string TestNode::listen(const std::string& wanted) {
  std::string address;
  run([&] {
    auto bound = transport_->listen(wanted, [this](std::unique_ptr<Link> link) {
      const std::lock_guard lock(on().mutex);
      accepted_.push_back(std::move(link));
      on().changed.notify_all();
    });
    ASSERT_TRUE(bound.ok()) << bound.error().message();
    address = *bound;
  });
  return address;
}

std::unique_ptr<Link> TestNode::accept() {
  if (!on().wait([&] { return !accepted_.empty(); })) return nullptr;
  const std::lock_guard lock(on().mutex);
  auto link = std::move(accepted_.front());
  accepted_.pop_front();
  return link;
}

Result<std::unique_ptr<Link>> TestNode::connect(const std::string& address) {
  auto answer = std::make_shared<std::optional<Result<std::unique_ptr<Link>>>>();
  run([&] {
    transport_->connect(address, [this, answer](Result<std::unique_ptr<Link>> link) {
      const std::lock_guard lock(on().mutex);
      answer->emplace(std::move(link));
      on().changed.notify_all();
    });
  });
  if (!on().wait([&] { return answer->has_value(); })) return failed("connect() does not answer");
  return std::move(**answer);
}

void TestNode::destroy_transport() {
  run([this] { transport_.reset(); });
}

LinkEnd::LinkEnd(TestNode& node, std::unique_ptr<Link> link, Releases releases, Hook hook, bool start_now)
    : node_(node), link_(std::move(link)), releases_(releases), hook_(std::move(hook)) {
  if (start_now) start();
}

LinkEnd::~LinkEnd() { destroy(); }

void LinkEnd::start() {
  node_.run([this] {
    LinkEvents events;
    events.on_parcel = [this](Parcel parcel) {
      const bool counts = parcel.header.kind != wire::FrameKind::system;
      if (hook_) hook_(*this, parcel);
      if (counts && releases_ == Releases::at_once && link_) link_->release(1);
      const std::lock_guard lock(node_.on().mutex);
      received_.push_back(std::move(parcel));
      node_.on().changed.notify_all();
    };
    events.on_room = [this] { pump(); };
    events.on_closed = [this](Error error) {
      const std::lock_guard lock(node_.on().mutex);
      closed_.push_back(error.message());
      node_.on().changed.notify_all();
    };
    link_->start(std::move(events));
  });
}

void LinkEnd::pump() {
  const std::lock_guard lock(node_.on().mutex);
  while (!outbox_.empty() && link_ && link_->send(outbox_.front())) outbox_.pop_front();
  node_.on().changed.notify_all();
}

void LinkEnd::send(std::vector<Parcel> parcels) {
  auto held = std::make_shared<std::vector<Parcel>>(std::move(parcels));
  node_.run([this, held] {
    {
      const std::lock_guard lock(node_.on().mutex);
      for (Parcel& parcel : *held) outbox_.push_back(std::move(parcel));
    }
    pump();
  });
}

void LinkEnd::send(Parcel parcel) {
  std::vector<Parcel> one;
  one.push_back(std::move(parcel));
  send(std::move(one));
}

bool LinkEnd::try_send(Parcel& parcel) {
  bool sent = false;
  node_.run([&] { sent = link_->send(parcel); });
  return sent;
}

void LinkEnd::release(int64_t count) {
  node_.run([&] { link_->release(count); });
}

void LinkEnd::close(const Error& reason) {
  node_.run([&] { link_->close(reason); });
}

void LinkEnd::destroy() {
  node_.run([this] { link_.reset(); });
}

bool LinkEnd::wait_received(size_t count) {
  return node_.on().wait([&] { return received_.size() >= count; });
}

std::string LinkEnd::wait_closed() {
  return node_.on().wait([&] { return !closed_.empty(); }) ? closed_.front() : "";
}

bool LinkEnd::wait_sent() {
  return node_.on().wait([&] { return outbox_.empty(); });
}

size_t LinkEnd::received() {
  const std::lock_guard lock(node_.on().mutex);
  return received_.size();
}

size_t LinkEnd::unsent() {
  const std::lock_guard lock(node_.on().mutex);
  return outbox_.size();
}

bool LinkEnd::closed() {
  const std::lock_guard lock(node_.on().mutex);
  EXPECT_LE(closed_.size(), 1U) << "on_closed came more than once";
  return !closed_.empty();
}

Parcel& LinkEnd::parcel(size_t i) {
  const std::lock_guard lock(node_.on().mutex);
  return received_.at(i);
}

std::string LinkEnd::text(size_t i) { return text_of(parcel(i)); }

LinkCounters LinkEnd::counters() {
  LinkCounters counters;
  node_.run([&] { counters = link_->counters(); });
  return counters;
}

void TransportConformance::SetUp() {
  if (!GetParam().make) GTEST_SKIP() << GetParam().name << " is not there";
}

void TransportConformance::nodes(const LinkOptions& options, const NodeSettings& first, NodeSettings second) {
  node_a_ = std::make_unique<TestNode>(GetParam(), options, first);
  node_b_ = std::make_unique<TestNode>(GetParam(), options, second);
  address_ = node_b_->listen();
}

void TransportConformance::connect(LinkEnd::Releases releases, LinkEnd::Hook hook) {
  auto link = node_a_->connect(address_);
  ASSERT_TRUE(link.ok()) << link.error().message();
  auto accepted = node_b_->accept();
  ASSERT_NE(accepted, nullptr);
  b_ = std::make_unique<LinkEnd>(*node_b_, std::move(accepted), releases, std::move(hook));
  a_ = std::make_unique<LinkEnd>(*node_a_, std::move(link).value());
}

}  // namespace troupe::net
