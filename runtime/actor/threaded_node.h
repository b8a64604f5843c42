// A node with threads of its own, one for each loop, and the transports that it links through; ends all of them in
// the right order. What a program has that is no simulation.
#pragma once
#include <memory>
#include <vector>

#include "runtime/actor/node.h"
#include "runtime/actor/thread_loop.h"
#include "runtime/net/transport.h"

namespace troupe::actor {

class ThreadedNode {
 public:
  explicit ThreadedNode(NodeOptions options, int loops = 1, ThreadLoopOptions loop_options = {}) {
    std::vector<EventLoop*> bare;
    for (int i = 0; i < loops; ++i) {
      threads_.push_back(std::make_unique<LoopThread>(loop_options));
      bare.push_back(&threads_.back()->loop());
    }
    node_ = std::make_unique<Node>(std::move(options), std::move(bare));
  }
  // Ends what still runs, without a word; stop_blocking() first lets it end by itself. Not on one of its loops. A
  // handler that blocks its thread is waited for.
  ~ThreadedNode() {
    for (const auto& thread : threads_) thread->join();
    node_.reset();
    transports_.clear();
  }

  Node& node() { return *node_; }
  Node* operator->() { return node_.get(); }
  ThreadLoop& loop(int index = 0) { return threads_.at(static_cast<size_t>(index))->loop(); }
  // For links of this node; made for loop 0.
  net::Transport& add(std::unique_ptr<net::Transport> transport) {
    transports_.push_back(std::move(transport));
    return *transports_.back();
  }

 private:
  std::vector<std::unique_ptr<LoopThread>> threads_;
  std::vector<std::unique_ptr<net::Transport>> transports_;
  std::unique_ptr<Node> node_;
};

}  // namespace troupe::actor
