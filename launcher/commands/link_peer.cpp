#include "launcher/commands/link_peer.h"

#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <sstream>

#include "runtime/net/tcp.h"
#include "runtime/net/ucx.h"

namespace troupe::launcher {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kTaskVariable = "TROUPE_BENCH_PEER";

std::string answerer_name(int index) { return fmt::format("answerer {}", index); }

}  // namespace

Result<ChildProcess> LinkPeerTask::start(const std::vector<std::string>& arguments) const {
  std::error_code ignored;
  ProcessOptions options;
  options.arguments = {std::filesystem::read_symlink("/proc/self/exe", ignored).string()};
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  options.environment = {{kTaskVariable, fmt::format("{} {} {} {} {}", setting.transport, setting.spin.count(),
                                                     answerers, address, token)}};
  options.death_signal = SIGKILL;
  return ChildProcess::start(options);
}

Result<LinkPeerTask> LinkPeerTask::from_environment() {
  const char* text = std::getenv(kTaskVariable);
  LinkPeerTask task;
  int64_t spin_us = 0;
  std::istringstream words(text == nullptr ? "" : text);
  if (!(words >> task.setting.transport >> spin_us >> task.answerers >> task.address >> task.token))
    return usage_error("{} does not say what to do; `troupe bench actors` starts this process", kTaskVariable);
  task.setting.spin = std::chrono::microseconds(spin_us);
  return task;
}

LinkSide::LinkSide(const net::Peer& self, const std::string& token, std::chrono::microseconds spin,
                   std::function<void(const net::Peer&, const actor::Cause&)> on_link)
    : local(self, net::program_build(), token),
      node({.name = self.name, .host = self.host, .pid = self.pid, .id = self.node, .on_link = std::move(on_link)}, 1,
           {.spin = spin}) {}

Status LinkSide::open(const std::string& kind) {
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

LinkPeers::LinkPeers(const net::Peer& self, const LinkSetting& setting, size_t count, const std::string& token)
    : count_(count), side_(self, token, setting.spin, [this](const net::Peer& peer, const actor::Cause& lost) {
        if (lost || linking_.size() == count_) return;
        linking_.push_back(peer.node);
        if (linking_.size() == count_) linked_.set_value(linking_);
      }) {}

LinkPeers::~LinkPeers() {
  (void)side_.node->stop_blocking(std::chrono::seconds(1)).ok();
  for (ChildProcess& process : processes_) (void)process.wait(2'000);
}

Result<std::unique_ptr<LinkPeers>> LinkPeers::start(const LinkSetting& setting, size_t count, int answerers,
                                                    const std::vector<std::string>& peer) {
  std::unique_ptr<LinkPeers> peers(
      new LinkPeers(TROUPE_TRY(net::LocalNode::here("asks", 1)), setting, count, TROUPE_TRY(wire::random_token())));
  TROUPE_TRY(peers->open({.setting = setting, .answerers = answerers}, peer));
  return peers;
}

Status LinkPeers::open(const LinkPeerTask& task, const std::vector<std::string>& peer) {
  TROUPE_TRY(side_.open(task.setting.transport));
  LinkPeerTask complete = task;
  complete.address = TROUPE_TRY(side_.node->listen_blocking(*side_.transport, ""));
  complete.token = side_.local.token();
  for (size_t i = 0; i < count_; ++i) processes_.push_back(TROUPE_TRY(complete.start(peer)));
  auto linked = linked_.get_future();
  const auto deadline = Clock::now() + kLinkPatience;
  while (linked.wait_for(std::chrono::milliseconds(20)) != std::future_status::ready) {
    for (ChildProcess& process : processes_) {
      if (const auto end = process.poll()) return failed("process {} {}", process.pid(), end->describe());
    }
    if (Clock::now() > deadline) return failed("a process did not come within {} s", kLinkPatience.count());
  }
  nodes_ = linked.get();
  return {};
}

Result<actor::Ref<Answerer>> LinkPeers::answerer(size_t peer, int index) {
  return side_.node->lookup_blocking<Answerer>(nodes_.at(peer), answerer_name(index), kLinkPatience);
}

Status serve_link_peer() {
  const LinkPeerTask task = TROUPE_TRY(LinkPeerTask::from_environment());
  if (task.setting.transport == "sockets") return serve_bare_sockets(task);
  std::promise<void> over;
  LinkSide side(TROUPE_TRY(net::LocalNode::here("answers", 1)), task.token, task.setting.spin,
                [&over](const net::Peer&, const actor::Cause& lost) {
                  if (lost) over.set_value();
                });
  TROUPE_TRY(side.open(task.setting.transport));
  for (int i = 0; i < task.answerers; ++i) side.node->spawn<Answerer>({.registered = answerer_name(i)});
  TROUPE_TRY(side.node->connect_blocking(*side.transport, task.address, kLinkPatience));
  if (over.get_future().wait_for(kLinkPeerLife) == std::future_status::ready) return {};
  return failed("nobody has closed the link for {} minutes", kLinkPeerLife.count());
}

}  // namespace troupe::launcher
