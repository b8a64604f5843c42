// What the tests of transports stand on: nodes on loops of their own, and link ends that keep what arrives. Every wait
// has a deadline.
#pragma once
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "runtime/actor/thread_loop.h"
#include "runtime/net/local_node.h"
#include "runtime/net/transport.h"

namespace troupe::net {

constexpr std::chrono::seconds kPatience{20};

// What a node of the tests lives on.
class TestLoop {
 public:
  virtual ~TestLoop() = default;
  virtual actor::EventLoop& loop() = 0;
  // Runs on the loop, and waits for it.
  virtual void run(std::function<void()> work) = 0;
  // Until the predicate holds, which is asked under the mutex. False where that takes too long.
  virtual bool wait(const std::function<bool()>& predicate) = 0;
  // Nothing runs any more.
  virtual void end() = 0;

  std::mutex mutex;                 // guards what callbacks on the loop tell the test
  std::condition_variable changed;  // notified with it
};

class ThreadTestLoop final : public TestLoop {
 public:
  ~ThreadTestLoop() override { end(); }
  actor::EventLoop& loop() override { return thread_.loop(); }
  void run(std::function<void()> work) override;
  bool wait(const std::function<bool()>& predicate) override;
  void end() override { thread_.join(); }

 private:
  actor::LoopThread thread_{{.spin = {}}};
};

struct Backend {
  std::string name;
  std::function<std::unique_ptr<TestLoop>()> make_loop;
  // Null where this machine or build lacks it.
  std::function<std::unique_ptr<Transport>(actor::EventLoop&, const LocalNode&, const LinkOptions&)> make;
  std::string nowhere;  // an address where nobody listens
};
// A backend whose nodes live on threads.
Backend threaded(
    std::string name, std::string nowhere,
    std::function<std::unique_ptr<Transport>(actor::ThreadLoop&, const LocalNode&, const LinkOptions&)> make = {});

void PrintTo(const Backend& backend, std::ostream* out);

// A message as an object.
struct TextPayload final : Payload {
  explicit TextPayload(std::string said) : text(std::move(said)) {}
  Body encode() const override;
  std::string text;
};

struct NodeSettings {
  std::string name = "a";
  uint64_t generation = 1;
  std::string token = "the job's secret token";
  std::string build = "build-1";
};

class TestNode {
 public:
  TestNode(const Backend& backend, const LinkOptions& options, const NodeSettings& settings = {});
  ~TestNode();
  // Runs on the node's loop, and waits for it.
  void run(std::function<void()> work);
  // Listens; accepted links queue up for accept().
  std::string listen(const std::string& address = "");
  std::unique_ptr<Link> accept();
  // Runs on the loop; the links that come are the caller's own matter.
  Result<std::unique_ptr<Link>> connect(const std::string& address);
  void destroy_transport();
  LocalNode& node() { return node_; }
  TestLoop& on() { return *loop_; }
  actor::EventLoop& loop() { return loop_->loop(); }

 private:
  LocalNode node_;
  std::deque<std::unique_ptr<Link>> accepted_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<TestLoop> loop_;
};

// One end of a link. Methods are called from the test's thread.
class LinkEnd {
 public:
  // What is done with each parcel on the loop's thread, before it is kept.
  using Hook = std::function<void(LinkEnd&, const Parcel&)>;
  enum class Releases { at_once, when_told };

  LinkEnd(TestNode& node, std::unique_ptr<Link> link, Releases releases = Releases::at_once, Hook hook = {},
          bool start = true);
  ~LinkEnd();
  void start();

  // Queues; what finds no room goes when there is some.
  void send(std::vector<Parcel> parcels);
  void send(Parcel parcel);
  // On the loop thread: what Link::send says.
  bool try_send(Parcel& parcel);
  void release(int64_t count);
  void close(const Error& reason);
  void destroy();
  // On the loop thread only.
  Link* link() { return link_.get(); }
  void drop_here() { link_.reset(); }

  // False where fewer came in time.
  bool wait_received(size_t count);
  // Empty where it did not close in time.
  std::string wait_closed();
  bool wait_sent();  // nothing waits for room any more
  size_t received();
  size_t unsent();
  bool closed();
  Parcel& parcel(size_t i);
  std::string text(size_t i);
  LinkCounters counters();

 private:
  void pump();

  TestNode& node_;
  std::unique_ptr<Link> link_;
  const Releases releases_;
  const Hook hook_;
  std::deque<Parcel> outbox_;
  std::deque<Parcel> received_;
  std::vector<std::string> closed_;
};

std::string text_of(const Parcel& parcel);
Parcel text_parcel(std::string text, wire::FrameKind kind = wire::FrameKind::message);
// As bytes from the start, so that inproc counts them, too.
Parcel bytes_parcel(size_t words_bytes, const std::vector<size_t>& buffers, uint64_t seed = 1);
// Whether a parcel holds what bytes_parcel() put into it.
testing::AssertionResult is_bytes_parcel(const Parcel& parcel, size_t words_bytes, const std::vector<size_t>& buffers,
                                         uint64_t seed = 1);

// Two nodes and a link between them: a dialed, b listened.
class TransportConformance : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override;
  void nodes(const LinkOptions& options = {}, const NodeSettings& first = {}, NodeSettings second = {.name = "b"});
  void connect(LinkEnd::Releases releases = LinkEnd::Releases::at_once, LinkEnd::Hook hook = {});

  std::unique_ptr<TestNode> node_a_, node_b_;
  std::string address_;
  std::unique_ptr<LinkEnd> a_, b_;
};

}  // namespace troupe::net
