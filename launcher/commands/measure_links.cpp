#include "launcher/commands/measure_links.h"

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <future>
#include <sstream>

#include "launcher/commands/link_peer.h"
#include "runtime/actor/handoff.h"
#include "runtime/actor/threaded_node.h"
#include "runtime/actor/waiting.h"
#include "runtime/net/tcp.h"
#include "runtime/net/ucx.h"

namespace troupe::launcher {
namespace {

using actor::Actor;
using actor::Ref;
using actor::Task;
using actor::ThreadedNode;
using Clock = std::chrono::steady_clock;

constexpr const char* kTaskVariable = "TROUPE_BENCH_PEER";
constexpr const char* kAnswerer = "answerer";
constexpr std::chrono::microseconds kSpin{200};  // longer than any answer takes

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Answerer : public Actor {
 public:
  int64_t echo(int64_t number) { return number; }
  int64_t take(wire::Buffer buffer) { return static_cast<int64_t>(buffer.size()); }
  using Protocol = actor::Methods<&Answerer::echo, &Answerer::take>;
};

class Caller : public Actor {
 public:
  explicit Caller(Ref<Answerer> peer) : peer_(std::move(peer)) {}

  Task<Result<double>> asks(int64_t count) {
    std::vector<double> seconds;
    for (int64_t i = 0; i < count; ++i) {
      const auto start = Clock::now();
      TROUPE_CO_TRY(co_await peer_.ask<&Answerer::echo>(i, kLinkPatience));
      seconds.push_back(seconds_since(start));
    }
    std::ranges::nth_element(seconds, seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2));
    co_return seconds[seconds.size() / 2];
  }
  Task<Result<double>> pour(wire::Buffer buffer, int64_t count) {
    std::vector<Task<Status>> halves;
    for (const int64_t half : {count / 2, count - count / 2}) halves.push_back(give(buffer, half));
    const auto start = Clock::now();
    for (const Status& given : co_await actor::all(std::move(halves))) {
      if (!given.ok()) co_return given.error();
    }
    co_return static_cast<double>(buffer.size()) * static_cast<double>(count) / seconds_since(start);
  }

 private:
  Task<Status> give(wire::Buffer buffer, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t taken = TROUPE_CO_TRY(co_await peer_.ask<&Answerer::take>(buffer, kLinkPatience));
      if (taken != static_cast<int64_t>(buffer.size())) co_return failed("{} bytes came of {}", taken, buffer.size());
    }
    co_return Status();
  }
  Ref<Answerer> peer_;
};

// A node of one loop with a transport.
struct Side {
  Side(const net::Peer& self, const std::string& token, std::chrono::microseconds spin,
       std::function<void(const net::Peer&, const actor::Cause&)> on_link)
      : local(self, net::program_build(), token),
        node({.name = self.name, .host = self.host, .pid = self.pid, .id = self.node, .on_link = std::move(on_link)}, 1,
             {.spin = spin}) {}

  Status open(const std::string& kind) {
    if (kind != "ucx") {
      transport = &node.add(std::make_unique<net::TcpTransport>(node.loop(), local));
      return {};
    }
    // A UCX worker belongs to its loop's thread from the start.
    const auto made = std::make_shared<std::promise<Result<std::unique_ptr<net::Transport>>>>();
    auto future = made->get_future();
    node.loop().post([this, made] { made->set_value(net::make_ucx_transport(node.loop(), local)); });
    if (future.wait_for(kLinkPatience) != std::future_status::ready)
      return failed("UCX has not started within {} s", kLinkPatience.count());
    transport = &node.add(TROUPE_TRY(future.get()));
    return {};
  }

  const net::LocalNode local;
  ThreadedNode node;
  net::Transport* transport = nullptr;
};

class Pair final : public LinkedPair {
 public:
  Pair(const net::Peer& self, const LinkSetting& setting, const std::string& token)
      : side_(self, token, setting.spin, [this](const net::Peer& peer, const actor::Cause& lost) {
          if (!lost && !std::exchange(is_linked_, true)) linked_.set_value(peer.node);
        }) {}
  // The second process ends with its link.
  ~Pair() override {
    (void)side_.node->stop_blocking(std::chrono::seconds(1)).ok();
    if (process_) (void)process_->wait(2'000);
  }

  Status open(const LinkSetting& setting, const std::vector<std::string>& peer) {
    TROUPE_TRY(side_.open(setting.transport));
    const LinkPeerTask task{.transport = setting.transport,
                            .spin_us = setting.spin.count(),
                            .address = TROUPE_TRY(side_.node->listen_blocking(*side_.transport, "")),
                            .token = side_.local.token()};
    process_.emplace(TROUPE_TRY(task.start(peer)));
    auto linked = linked_.get_future();
    const auto deadline = Clock::now() + kLinkPatience;
    while (linked.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready) {
      if (const auto end = process_->poll()) return failed("the second process {}", end->describe());
      if (Clock::now() > deadline) return failed("the second process did not come within {} s", kLinkPatience.count());
    }
    auto answerer = TROUPE_TRY(side_.node->lookup_blocking<Answerer>(linked.get(), kAnswerer, kLinkPatience));
    caller_ = side_.node->spawn<Caller>({}, std::move(answerer));
    std::span<std::byte> bytes;
    buffer_ = wire::Buffer::allocate(kBulkBytes, &bytes);
    std::memset(bytes.data(), 1, bytes.size());
    return {};
  }

  Result<double> round_trip(int64_t asks) override { return caller_.ask_blocking<&Caller::asks>(asks, kLinkPatience); }
  Result<double> bulk(int64_t buffers) override {
    return caller_.ask_blocking<&Caller::pour>(buffer_, buffers, kLinkPatience);
  }

 private:
  bool is_linked_ = false;
  std::promise<uint64_t> linked_;
  Side side_;
  Ref<Caller> caller_;
  wire::Buffer buffer_;
  std::optional<ChildProcess> process_;
};

}  // namespace

Result<ChildProcess> LinkPeerTask::start(const std::vector<std::string>& arguments) const {
  std::error_code ignored;
  ProcessOptions options;
  options.arguments = {std::filesystem::read_symlink("/proc/self/exe", ignored).string()};
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  options.environment = {{kTaskVariable, fmt::format("{} {} {} {}", transport, spin_us, address, token)}};
  options.death_signal = SIGKILL;
  return ChildProcess::start(options);
}

Result<LinkPeerTask> LinkPeerTask::from_environment() {
  const char* text = std::getenv(kTaskVariable);
  LinkPeerTask task;
  std::istringstream words(text == nullptr ? "" : text);
  if (!(words >> task.transport >> task.spin_us >> task.address >> task.token))
    return usage_error("{} does not say what to do; `troupe bench actors` starts this process", kTaskVariable);
  return task;
}

Result<std::unique_ptr<LinkedPair>> LinkedPair::start(const LinkSetting& setting,
                                                      const std::vector<std::string>& peer) {
  auto pair =
      std::make_unique<Pair>(TROUPE_TRY(net::LocalNode::here("asks", 1)), setting, TROUPE_TRY(wire::random_token()));
  TROUPE_TRY(pair->open(setting, peer));
  return std::unique_ptr<LinkedPair>(std::move(pair));
}

Status serve_link_peer() {
  const LinkPeerTask task = TROUPE_TRY(LinkPeerTask::from_environment());
  if (task.transport == "sockets") return serve_bare_sockets(task);
  std::promise<void> over;
  Side side(TROUPE_TRY(net::LocalNode::here("answers", 1)), task.token, std::chrono::microseconds(task.spin_us),
            [&over](const net::Peer&, const actor::Cause& lost) {
              if (lost) over.set_value();
            });
  TROUPE_TRY(side.open(task.transport));
  side.node->spawn<Answerer>({.registered = kAnswerer});
  TROUPE_TRY(side.node->connect_blocking(*side.transport, task.address, kLinkPatience));
  if (over.get_future().wait_for(kLinkPeerLife) == std::future_status::ready) return {};
  return failed("nobody has closed the link for {} minutes", kLinkPeerLife.count());
}

Status measure_links(double scale, const std::vector<std::string>& peer, Figures& figures) {
  const auto count = [&](double messages) { return static_cast<int64_t>(std::max(1.0, messages * scale)); };
  const int64_t asks = count(2000), buffers = count(16);
  const auto us = [](Result<double> seconds) { return seconds.ok() ? Result<double>(*seconds * 1e6) : seconds; };
  const auto gb = [](Result<double> rate) { return rate.ok() ? Result<double>(*rate / 1e9) : rate; };
  const auto sockets = TROUPE_TRY(BareSockets::start(peer));
  struct Link {
    LinkSetting setting;
    Goal goal;  // of an ask, in us
  };
  for (const auto& [setting, goal] : {Link{{"ucx", kSpin}, at_most(6)}, Link{{"ucx"}, at_most(60)},
                                      Link{{"tcp", kSpin}, kNoGoal}, Link{{"tcp"}, at_most(90)}}) {
    const bool ucx = setting.transport == "ucx";
    const auto name = [&](std::string_view what) {
      return fmt::format("{} over {}, {}", what, setting.transport,
                         setting.spin.count() > 0 ? "spinning" : "from sleep");
    };
    auto started = LinkedPair::start(setting, peer);
    if (!started.ok() && started.error().kind() == ErrorKind::environment) {
      for (const char* what : {"ask", "64 MiB buffers"}) figures.skip(name(what), started.error().message());
      continue;
    }
    const auto pair = TROUPE_TRY(std::move(started));
    TROUPE_TRY(figures.compare({name("ask"), "us", goal}, [&] { return us(pair->round_trip(asks)); },
                               {"bare sockets", [&] { return us(sockets->round_trip(asks)); }, kNoGoal}));
    TROUPE_TRY(figures.compare(
        {name("64 MiB buffers"), "GB/s", kNoGoal, true}, [&] { return gb(pair->bulk(buffers)); },
        ucx ? Figures::Peer{"ucx_perftest", [&] { return gb(ucx_perftest_bulk(buffers)); }, at_least(0.7)}
            : Figures::Peer{"bare sockets", [&] { return gb(sockets->bulk(buffers)); }, at_least(0.85)}));
  }
  return {};
}

}  // namespace troupe::launcher
