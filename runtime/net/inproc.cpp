#include "runtime/net/inproc.h"

#include <array>
#include <map>
#include <mutex>

#include "runtime/net/early_link.h"

namespace troupe::net {
namespace {

class InprocLink;

// The connection: who may be posted to. An end leaves before its loop ends, and nobody posts to it any more.
struct Pipe {
  struct End {
    actor::EventLoop* loop = nullptr;
    std::weak_ptr<InprocLink> link;
  };
  std::mutex mutex;
  std::array<End, 2> ends;
};

class InprocLink final : public EarlyLink {
 public:
  InprocLink(actor::EventLoop& loop, const LocalNode& node, Peer peer, const LinkOptions& options,
             std::shared_ptr<Pipe> pipe, size_t side)
      : EarlyLink(loop, node, std::move(peer), options), pipe_(std::move(pipe)), side_(side) {}
  ~InprocLink() override { leave(); }

  void join() {
    const std::lock_guard lock(pipe_->mutex);
    pipe_->ends[side_] = {&loop(), std::static_pointer_cast<InprocLink>(shared_from_this())};
  }

 protected:
  void pump() override {
    while (core().has_output()) {
      if (!post(std::make_unique<Delivery>(core().next(now())))) return;
    }
  }

  void finish() override { drained(); }

  void shut() noexcept override { leave(); }

  Status encode(Parcel&) override { return {}; }  // objects stay objects

 private:
  struct Delivery final : actor::Job {
    Delivery() = default;
    explicit Delivery(Parcel sent) : parcel(std::move(sent)) {}
    void run() noexcept override {
      const std::unique_ptr<Delivery> self(this);
      if (const auto link = to.lock()) parcel ? link->take(std::move(*parcel)) : link->peer_left();
    }
    void drop() noexcept override { delete this; }
    std::optional<Parcel> parcel;  // none: the sender has left
    std::weak_ptr<InprocLink> to;
  };

  // False: the other end has left.
  bool post(std::unique_ptr<Delivery> delivery) {
    const std::lock_guard lock(pipe_->mutex);
    return post_locked(std::move(delivery));
  }
  bool post_locked(std::unique_ptr<Delivery> delivery) {
    Pipe::End& other = pipe_->ends[1 - side_];
    if (other.loop == nullptr) return false;
    delivery->to = other.link;
    other.loop->post(*delivery.release());
    return true;
  }
  void leave() {
    const std::lock_guard lock(pipe_->mutex);
    Pipe::End& own = pipe_->ends[side_];
    if (own.loop == nullptr) return;
    own = {};
    post_locked(std::make_unique<Delivery>());
  }

  const std::shared_ptr<Pipe> pipe_;
  const size_t side_;
};

using Accepted = std::function<void(std::unique_ptr<Link>)>;

}  // namespace

// What listeners and callers of this transport share with callbacks that are under way.
struct InprocNode {
  actor::EventLoop& loop;
  const LocalNode& node;
  LinkOptions options;
  std::mutex mutex;  // held while somebody posts to the loop
  bool gone = false;

  bool post(std::function<void()> callback) {
    const std::lock_guard lock(mutex);
    if (!gone) loop.post(std::move(callback));
    return !gone;
  }
};

class InprocNetwork::Directory {
 public:
  struct Listener {
    std::shared_ptr<InprocNode> own;
    std::shared_ptr<Accepted> accepted;
  };
  std::mutex mutex;
  std::map<std::string, Listener> listeners;
  int64_t next = 1;
};

InprocNetwork::InprocNetwork() : directory_(std::make_shared<Directory>()) {}

InprocTransport::InprocTransport(InprocNetwork network, actor::EventLoop& loop, const LocalNode& node,
                                 LinkOptions options)
    : network_(std::move(network)), own_(new InprocNode{loop, node, options, {}, false}) {
  own_->options.heartbeat_every = {};
}

InprocTransport::~InprocTransport() {
  {
    const std::lock_guard lock(network_.directory_->mutex);
    for (const std::string& address : addresses_) network_.directory_->listeners.erase(address);
  }
  const std::lock_guard lock(own_->mutex);
  own_->gone = true;
}

Result<std::string> InprocTransport::listen(const std::string& address, Accepted accepted) {
  InprocNetwork::Directory& directory = *network_.directory_;
  const std::lock_guard lock(directory.mutex);
  std::string taken = address;
  if (address.empty() || address.ends_with(":0")) taken = fmt::format("inproc:{}", directory.next++);
  if (directory.listeners.contains(taken)) return failed("{}: address in use", taken);
  directory.listeners[taken] = {own_, std::make_shared<Accepted>(std::move(accepted))};
  addresses_.push_back(taken);
  return taken;
}

void InprocTransport::connect(const std::string& address,
                              std::function<void(Result<std::unique_ptr<Link>>)> connected) {
  const auto answer = [own = own_, connected = std::move(connected)](Result<std::unique_ptr<Link>> result) {
    // std::function wants to be copied; a link does not.
    auto held = std::make_shared<Result<std::unique_ptr<Link>>>(std::move(result));
    own->post([own, connected, held] {
      if (!own->gone) connected(std::move(*held));
    });
  };
  InprocNetwork::Directory::Listener listener;
  {
    const std::lock_guard lock(network_.directory_->mutex);
    const auto found = network_.directory_->listeners.find(address);
    if (found != network_.directory_->listeners.end()) listener = found->second;
  }
  if (!listener.own) return answer(failed("{}: connection refused", address));

  const LocalNode& here = own_->node;
  const LocalNode& there = listener.own->node;
  auto introduced = introduce(here, own_->options, there, listener.own->options);
  if (!introduced.ok()) return answer(std::move(introduced).error().within(address));
  auto pipe = std::make_shared<Pipe>();
  auto near =
      std::make_shared<InprocLink>(own_->loop, here, introduced->listener, introduced->options_of_dialer, pipe, 0);
  auto far = std::make_shared<InprocLink>(listener.own->loop, there, introduced->dialer,
                                          introduced->options_of_listener, pipe, 1);
  near->join();
  far->join();
  const bool posted = listener.own->post([own = listener.own, accepted = listener.accepted, far] {
    auto link = std::make_unique<LinkHandle>(far);
    if (!own->gone) (*accepted)(std::move(link));
  });
  if (!posted) return answer(failed("{}: connection refused", address));
  answer(std::unique_ptr<Link>(std::make_unique<LinkHandle>(std::move(near))));
}

}  // namespace troupe::net
