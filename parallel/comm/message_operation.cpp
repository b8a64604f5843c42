#include "parallel/comm/message_operation.h"

#include <algorithm>
#include <cstring>

#include "parallel/comm/reduce.h"
#include "parallel/comm/transfers.h"

namespace troupe::parallel {
namespace {

constexpr int64_t kRoundBytes = 4 << 20;  // of a share: bounds the memory that others' parts take

class Collective final : public ProcessOperation {
 public:
  Collective(MessageGroup& group, Request&& r)
      : ProcessOperation(std::move(r)),
        group_(group),
        number_(group.operations++),
        transfers_(group.calls),
        sent_(static_cast<size_t>(n())),
        headers_(sent_.size()) {}

  bool advance() override {
    bool moved = false;
    if (!begun_) begin();
    while (transfers_.settle(moved)) {
      if (!next()) return true;
      moved = true;
      if (complete) return true;
    }
    return moved;
  }

  std::vector<int> absent() const override {
    std::vector<int> ranks;
    for (const int world : transfers_.awaited()) {
      ranks.push_back(static_cast<int>(std::ranges::find(group_.members, world) - group_.members.begin()));
    }
    return ranks;
  }

  bool release() override { return transfers_.cancel(); }

 private:
  int n() const { return group_.size(); }
  int me() const { return group_.rank; }
  int64_t element() const { return kernels::size_of(request.signature.dtype); }
  const std::byte* in(int64_t elements) const { return request.in + elements * element(); }
  std::byte* out(int64_t elements) const { return request.out + elements * element(); }

  void send(const std::byte* data, int64_t elements, int to) {
    transfers_.send(data, elements * element(), group_.members[static_cast<size_t>(to)], group_.collective_tag());
  }
  void receive(std::byte* data, int64_t elements, int from) {
    transfers_.receive(data, elements * element(), group_.members[static_cast<size_t>(from)], group_.collective_tag());
  }
  template <class Body>
  void for_others(const Body& body) const {
    for (int k = 1; k < n(); ++k) body((me() + k) % n());
  }

  void begin() {
    begun_ = true;
    const auto header_to = [&](size_t i) -> MessageHeader {
      if (request.signature.kind != OperationKind::all_to_all) return {number_, request.signature, 0, 0};
      return {number_, request.signature, request.send_offsets[i + 1] - request.send_offsets[i], 0};
    };
    headers_[static_cast<size_t>(me())] = header_to(static_cast<size_t>(me()));
    for_others([&](int r) {
      const auto i = static_cast<size_t>(r);
      sent_[i] = header_to(i);
      transfers_.receive(&headers_[i], sizeof(MessageHeader), group_.members[i], group_.collective_tag());
      transfers_.send(&sent_[i], sizeof(MessageHeader), group_.members[i], group_.collective_tag());
    });
  }

  // All that was posted is through: posts what comes next, or completes. False if the ranks disagree.
  bool next() {
    if (!met_ && !meet()) return false;
    met_ = true;
    const Signature& s = request.signature;
    if (s.kind == OperationKind::all_reduce || s.kind == OperationKind::reduce_scatter) {
      next_reduction();
    } else if (!moving_) {
      moving_ = true;
      move();
    } else {
      complete = true;
    }
    return true;
  }

  bool meet() {
    for (int r = 0; r < n(); ++r) {
      const auto i = static_cast<size_t>(r);
      const MessageHeader& header = headers_[i];  // one's own among them
      if (header.left) {
        problem = rank_left(fmt::format("rank {}", r), group_.name, request.signature);
      } else if (header.signature != request.signature || header.operation != number_) {
        const Signature& mine = request.signature;
        problem = r < me() ? mismatch(group_.name, r, header.signature, me(), mine)
                           : mismatch(group_.name, me(), mine, r, header.signature);
      } else if (request.signature.kind == OperationKind::all_to_all) {
        const int64_t takes = request.receive_offsets[i + 1] - request.receive_offsets[i];
        if (header.elements != takes)
          problem = pair_differs(group_.name, request.signature, r, header.elements, me(), takes);
      }
    }
    return problem.empty();
  }

  void move() {
    const Signature& s = request.signature;
    const int64_t piece = s.elements;
    switch (s.kind) {
      case OperationKind::all_gather:
      case OperationKind::split:
        for_others([&](int r) {
          receive(out(r * piece), piece, r);
          send(in(0), piece, r);
        });
        if (piece > 0 && out(me() * piece) != in(0)) std::memcpy(out(me() * piece), in(0), bytes(piece));
        break;
      case OperationKind::all_to_all: {
        const auto& give = request.send_offsets;
        const auto& take = request.receive_offsets;
        for_others([&](int r) {
          const auto i = static_cast<size_t>(r);
          receive(out(take[i]), take[i + 1] - take[i], r);
          send(in(give[i]), give[i + 1] - give[i], r);
        });
        const auto i = static_cast<size_t>(me());
        if (take[i + 1] > take[i]) {
          std::memcpy(out(take[i]), in(give[i]), bytes(take[i + 1] - take[i]));
        }
        break;
      }
      case OperationKind::broadcast:
        if (me() != s.root) {
          receive(out(0), piece, s.root);
        } else {
          for_others([&](int r) { send(in(0), piece, r); });
        }
        break;
      default: break;  // a barrier is over when all headers are here
    }
  }

  size_t bytes(int64_t elements) const { return static_cast<size_t>(elements * element()); }

  // all_reduce: where rank r's share of a round begins.
  int64_t share(int r) const { return r == n() ? count_ : count_ * r / n() / kCut * kCut; }

  // A round: every rank gathers the parts of its share; reduces; all_reduce: gives the result to all.
  void next_reduction() {
    const Signature& s = request.signature;
    const bool all = s.kind == OperationKind::all_reduce;
    if (gathering_) {
      gathering_ = false;
      const int64_t mine = all ? share(me()) : 0;
      const int64_t count = all ? share(me() + 1) - mine : count_;
      std::vector<const std::byte*> inputs(static_cast<size_t>(n()));
      for (int r = 0; r < n(); ++r) inputs[static_cast<size_t>(r)] = scratch_.data() + r * count * element();
      inputs[static_cast<size_t>(me())] = all ? in(begin_ + mine) : in(me() * s.elements + begin_);
      std::byte* const output = out(begin_ + mine);
      reduce_in_order(s.dtype, s.reduction, inputs, {&output, 1}, count);
      const int64_t from = begin_;
      begin_ += count_;
      if (!all) return next_reduction();
      for_others([&](int r) {
        receive(out(from + share(r)), share(r + 1) - share(r), r);
        send(output, count, r);
      });
      return;
    }
    if (begin_ == s.elements) {
      complete = true;
      return;
    }
    const int64_t most = kRoundBytes / element() * (all ? n() : 1);
    count_ = std::min(most, s.elements - begin_);
    const int64_t mine = all ? share(me() + 1) - share(me()) : count_;
    scratch_.resize(static_cast<size_t>(n()) * bytes(mine));
    for_others([&](int r) {
      receive(scratch_.data() + r * mine * element(), mine, r);
      if (all) {
        send(in(begin_ + share(r)), share(r + 1) - share(r), r);
      } else {
        send(in(r * s.elements + begin_), count_, r);
      }
    });
    gathering_ = true;
  }

  MessageGroup& group_;
  const uint64_t number_;
  Transfers transfers_;
  std::vector<MessageHeader> sent_, headers_;
  bool begun_ = false, met_ = false, moving_ = false, gathering_ = false;
  int64_t begin_ = 0, count_ = 0;   // of this round
  std::vector<std::byte> scratch_;  // [n, share] of all ranks' parts, ours left out
};

class Send final : public ProcessOperation {
 public:
  Send(const MessageGroup& group, Request&& r)
      : ProcessOperation(std::move(r)), group_(group), transfers_(group.calls) {}

  bool advance() override {
    bool moved = false;
    if (!begun_) {
      begun_ = true;
      header_ = {0, request.signature, request.signature.elements, 0};
      const int to = group_.members[static_cast<size_t>(request.peer)];
      transfers_.send(&header_, sizeof header_, to, group_.tag(request.tag));
      transfers_.send(request.in, request.bytes(request.signature.elements), to, group_.tag(request.tag));
    }
    if (transfers_.settle(moved)) complete = moved = true;
    return moved;
  }

  std::vector<int> absent() const override { return {request.peer}; }
  bool release() override { return transfers_.cancel(); }

 private:
  const MessageGroup& group_;
  Transfers transfers_;
  MessageHeader header_;
  bool begun_ = false;
};

class Receive final : public ProcessOperation {
 public:
  Receive(const MessageGroup& group, Request&& r)
      : ProcessOperation(std::move(r)), group_(group), transfers_(group.calls) {
    holds_order = true;
  }

  bool advance() override {
    const int from = group_.members[static_cast<size_t>(request.peer)];
    bool moved = false;
    if (!begun_) {
      begun_ = true;
      transfers_.receive(&header_, sizeof header_, from, group_.tag(request.tag));
    }
    if (!transfers_.settle(moved)) return moved;
    if (data_) {
      complete = true;
      return true;
    }
    Signature expected = request.signature;
    expected.kind = OperationKind::send;
    if (header_.signature != expected) {
      problem = mismatch(group_.name, request.peer, header_.signature, group_.rank, request.signature);
      return true;
    }
    data_ = true;
    holds_order = false;  // the next one may listen
    transfers_.receive(request.out, request.bytes(expected.elements), from, group_.tag(request.tag));
    return true;
  }

  std::vector<int> absent() const override { return {request.peer}; }
  bool release() override { return transfers_.cancel(); }

 private:
  const MessageGroup& group_;
  Transfers transfers_;
  MessageHeader header_;
  bool begun_ = false, data_ = false;
};

}  // namespace

std::unique_ptr<ProcessOperation> make_message_collective(MessageGroup& group, Request&& request) {
  return std::make_unique<Collective>(group, std::move(request));
}

std::unique_ptr<ProcessOperation> make_message_send(const MessageGroup& group, Request&& request) {
  return std::make_unique<Send>(group, std::move(request));
}

std::unique_ptr<ProcessOperation> make_message_receive(const MessageGroup& group, Request&& request) {
  return std::make_unique<Receive>(group, std::move(request));
}

}  // namespace troupe::parallel
