#include "launcher/commands/measure_links.h"

#include <algorithm>
#include <cstring>

#include "launcher/commands/link_peer.h"
#include "runtime/actor/handoff.h"
#include "runtime/actor/waiting.h"

namespace troupe::launcher {
namespace {

using actor::Actor;
using actor::Ref;
using actor::Task;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kSpin{200};  // longer than any answer takes

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

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

class Pair final : public LinkedPair {
 public:
  static Result<std::unique_ptr<LinkedPair>> start(const LinkSetting& setting, const std::vector<std::string>& peer) {
    std::unique_ptr<Pair> pair(new Pair);
    pair->peers_ = TROUPE_TRY(LinkPeers::start(setting, 1, 1, peer));
    pair->caller_ = pair->peers_->node().spawn<Caller>({}, TROUPE_TRY(pair->peers_->answerer(0, 0)));
    return std::unique_ptr<LinkedPair>(std::move(pair));
  }

  Result<double> round_trip(int64_t asks) override { return caller_.ask_blocking<&Caller::asks>(asks, kLinkPatience); }
  Result<double> bulk(int64_t buffers) override {
    return caller_.ask_blocking<&Caller::pour>(buffer_, buffers, kLinkPatience);
  }

 private:
  Pair() {
    std::span<std::byte> bytes;
    buffer_ = wire::Buffer::allocate(kBulkBytes, &bytes);
    std::memset(bytes.data(), 1, bytes.size());
  }
  wire::Buffer buffer_;
  std::unique_ptr<LinkPeers> peers_;
  Ref<Caller> caller_;
};

}  // namespace

Result<std::unique_ptr<LinkedPair>> LinkedPair::start(const LinkSetting& setting,
                                                      const std::vector<std::string>& peer) {
  return Pair::start(setting, peer);
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
