#include "runtime/net/ucx_link.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>

#include "runtime/wire/bytes.h"
#include "runtime/wire/frame.h"

namespace troupe::net {
namespace {

using boost::system::error_code;

// More wait in the account, where system parcels can pass them.
constexpr int64_t kMostUnderWayBytes = int64_t{1} << 20;
constexpr int64_t kMostUnderWay = 256;
// Large buffers go in pieces: one is on its way while the next is asked for, and each is there long before its silence
// would be too long.
constexpr size_t kPieceBytes = size_t{4} << 20;
constexpr int64_t kMostPiecesUnderWay = 2 * kPieceBytes;
// A frame this far ahead of the next one is none.
constexpr uint64_t kMostAhead = 1 << 16;
// The peer's last words may come after the news of its end.
constexpr std::chrono::milliseconds kGrace{200};

bool is_large(size_t size) { return size >= wire::kRendezvousBytes; }

}  // namespace

UcxLink::UcxLink(actor::EventLoop& loop, const LocalNode& node, Peer peer, const LinkOptions& options,
                 std::shared_ptr<UcxWorker> worker, std::shared_ptr<wire::BufferPool> pool,
                 boost::asio::ip::tcp::socket socket)
    : LinkState(loop, node, std::move(peer), options),
      worker_(std::move(worker)),
      pool_(std::move(pool)),
      limits_{options.max_frame_bytes, options.max_buffer_bytes},
      watch_(std::move(socket)) {}

Status UcxLink::join(std::span<const std::byte> peer_address, uint64_t own, uint64_t peer) {
  route_ = TROUPE_TRY(worker_->join(self(), peer_address, own, peer));
  const std::array<std::byte, 1> joined{};
  error_code error;
  watch_.write_some(boost::asio::buffer(joined), error);  // the first byte of a fresh connection never waits
  watch();
  return {};
}

// --- Sending.

// What was begun goes first: its pieces are signs of life, and the receiver has use for nothing else before it.
void UcxLink::pump() {
  while (ready_ && under_way_ < kMostUnderWay) {
    if (!leaving_.empty()) {
      if (under_way_bytes_ >= kMostPiecesUnderWay) return;
      send_piece();
    } else {
      if (!core().has_output() || under_way_bytes_ >= kMostUnderWayBytes) return;
      send_frame();
    }
  }
}

void UcxLink::send_frame() {
  Parcel parcel = core().next(now());
  Body& body = parcel.body;
  scratch_.clear();
  wire::append_frame_head(parcel.header, body, scratch_);
  wire::append(scratch_, body.words);
  for (const wire::Buffer& buffer : body.buffers) {
    if (!is_large(buffer.size())) wire::append(scratch_, buffer.bytes());
  }
  const uint64_t sequence = parcel.header.sequence;
  for (size_t i = 0; i < body.buffers.size(); ++i) {
    if (is_large(body.buffers[i].size()))
      leaving_.push_back({sequence, static_cast<uint32_t>(i + 1), std::move(body.buffers[i])});
  }
  ++under_way_;
  under_way_bytes_ += static_cast<int64_t>(scratch_.size());
  worker_->send(*route_, sequence, scratch_);
  if (scratch_.capacity() > static_cast<size_t>(kMostUnderWayBytes)) scratch_ = {};
}

void UcxLink::send_piece() {
  Leaving& part = leaving_.front();
  const Place place{part.sequence, part.part, part.offset, part.buffer.size()};
  const size_t size = std::min(kPieceBytes, part.buffer.size() - part.offset);
  part.offset += size;
  wire::Buffer buffer = part.buffer;
  if (part.offset == part.buffer.size()) leaving_.pop_front();
  ++under_way_;
  under_way_bytes_ += static_cast<int64_t>(size);
  worker_->send(*route_, place, size, std::move(buffer));
}

void UcxLink::sent(size_t bytes) {
  --under_way_;
  under_way_bytes_ -= static_cast<int64_t>(bytes);
}

void UcxLink::finish() {
  worker_->flush(*route_, [weak = std::weak_ptr<UcxLink>(self())] {
    // The peer has everything. It hears that no more comes, reads to the end, and then closes in turn.
    const auto link = weak.lock();
    if (!link || link->is_shut()) return;
    error_code ignored;
    link->watch_.shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
  });
}

void UcxLink::shut() noexcept {
  grace_.cancel();
  leave();
  error_code ignored;
  watch_.close(ignored);
}

void UcxLink::leave() noexcept {
  if (const auto route = std::exchange(route_, std::nullopt)) worker_->leave(*route);
}

// --- Receiving.

bool UcxLink::Arriving::whole() const {
  return head && parts.size() == large.size() &&
         std::ranges::all_of(parts, [](const Part& part) { return part.missing == 0; });
}

UcxLink::Arriving* UcxLink::arriving(uint64_t sequence) {
  if (sequence < next_ || sequence - next_ >= kMostAhead) {
    broke(failed("frame {} came where {} was due", sequence, next_));
    return nullptr;
  }
  while (arriving_.size() <= sequence - next_) arriving_.emplace_back();
  return &arriving_[sequence - next_];
}

void UcxLink::take_head(Arriving& into, std::span<const std::byte> bytes) {
  const auto malformed = [this] { broke(failed("a malformed frame")); };
  if (into.head || bytes.size() < wire::kFrameHeadBytes) return malformed();
  auto head = wire::parse_frame_head(bytes.first(wire::kFrameHeadBytes), limits_);
  if (!head.ok()) return broke(std::move(head).error());
  bytes = bytes.subspan(wire::kFrameHeadBytes);
  if (bytes.size() < size_t{8} * head->buffers) return malformed();
  auto lengths = wire::parse_buffer_lengths(bytes.first(size_t{8} * head->buffers), *head);
  if (!lengths.ok()) return broke(std::move(lengths).error());
  bytes = bytes.subspan(size_t{8} * head->buffers);
  size_t expected = head->words_bytes;
  for (const size_t length : *lengths) expected += is_large(length) ? 0 : length;
  if (bytes.size() != expected) return malformed();
  into.head = true;
  into.frame.header = head->header;
  wire::append(into.frame.body.words, bytes.first(head->words_bytes));
  bytes = bytes.subspan(head->words_bytes);
  std::vector<wire::Buffer>& buffers = into.frame.body.buffers;
  for (size_t i = 0; i < lengths->size(); ++i) {
    const size_t length = (*lengths)[i];
    if (is_large(length)) {
      into.large.push_back(static_cast<uint32_t>(i + 1));
      // Its length, until it comes.
      buffers.emplace_back(std::span<const std::byte>(static_cast<const std::byte*>(nullptr), length), nullptr);
      continue;
    }
    std::span<std::byte> memory;
    auto buffer = pool_->allocate(length, &memory);
    if (!buffer.ok()) return broke(std::move(buffer).error());
    buffers.push_back(std::move(*buffer));
    std::copy_n(bytes.begin(), length, memory.begin());
    bytes = bytes.subspan(length);
  }
}

void UcxLink::refuse(std::string_view why) { broke(failed("{}", why)); }

void UcxLink::piece_came(const Place& place, std::span<const std::byte> bytes) {
  came_ = true;
  if (place.part != 0) {
    // A piece that UCX brought at once.
    const std::span<std::byte> memory = piece_begins(place, bytes.size()).bytes;
    if (memory.size() != bytes.size()) return;
    std::copy(bytes.begin(), bytes.end(), memory.begin());
    return piece_ended(place, bytes.size());
  }
  if (Arriving* into = arriving(place.sequence)) take_head(*into, bytes);
}

// The part of a piece that begins to come; null where it may not.
UcxLink::Part* UcxLink::part_of(Arriving& into, const Place& place) {
  const auto head_limit = static_cast<size_t>(limits_.max_words_bytes) + wire::kFrameHeadBytes +
                          limits_.max_buffers * (wire::kRendezvousBytes + 8);
  const uint64_t limit = place.part == 0 ? head_limit : static_cast<uint64_t>(limits_.max_buffers_bytes);
  const auto found = std::ranges::find(into.parts, place.part, &Part::number);
  if (found != into.parts.end()) {
    if (found->memory.size() == place.total) return &*found;
    return refuse("pieces of a buffer do not agree on its length"), nullptr;
  }
  if (place.total > limit || into.parts.size() > limits_.max_buffers)
    return refuse("a frame larger than its limits"), nullptr;
  Part part;
  auto buffer = pool_->allocate(place.total, &part.memory);
  if (!buffer.ok()) return broke(std::move(buffer).error()), nullptr;
  part.number = place.part;
  part.buffer = std::move(*buffer);
  part.begun.resize(place.part == 0 ? 1 : (place.total + kPieceBytes - 1) / kPieceBytes);
  part.missing = place.total;
  return &into.parts.emplace_back(std::move(part));
}

UcxLink::Memory UcxLink::piece_begins(const Place& place, size_t size) {
  Arriving* into = arriving(place.sequence);
  Part* part = into == nullptr ? nullptr : part_of(*into, place);
  if (part == nullptr) return {};
  const size_t piece = place.offset / kPieceBytes;
  const size_t due = place.part == 0 ? place.total : std::min<uint64_t>(kPieceBytes, place.total - place.offset);
  if (place.offset % kPieceBytes != 0 || place.offset > place.total || size != due || piece >= part->begun.size())
    return refuse("a piece of a buffer that is none"), Memory();
  if (part->begun[piece]) return refuse("a piece of a frame came twice"), Memory();
  part->begun[piece] = true;
  return {part->buffer, part->memory.subspan(place.offset, size)};
}

void UcxLink::piece_ended(const Place& place, size_t size) {
  came_ = true;
  if (place.sequence < next_) return;
  Arriving* into = arriving(place.sequence);
  if (into == nullptr) return;
  const auto part = std::ranges::find(into->parts, place.part, &Part::number);
  if (part == into->parts.end()) return;
  part->missing -= size;
  if (place.part != 0) return;
  // A head so long that UCX let us fetch it.
  const Part head = std::move(*part);
  into->parts.erase(part);
  take_head(*into, head.memory);
}

void UcxLink::broke(Error cause) {
  if (!broken_) broken_ = std::move(cause);
}

void UcxLink::noted() {
  if (is_shut()) return;
  if (core().has_output() || !leaving_.empty()) schedule();
  if (listening_) deliver();
}

void UcxLink::open() {
  loop().post([self = self()] {
    if (self->is_shut()) return;
    self->listening_ = true;
    self->progress_at_ = self->now();
    self->deliver();
    if (self->peer_ended_ && !self->is_shut()) self->peer_ended();
  });
}

void UcxLink::deliver() {
  if (std::exchange(came_, false)) heard();
  while (!arriving_.empty() && arriving_.front().whole()) {
    Arriving whole = std::move(arriving_.front());
    arriving_.pop_front();
    ++next_;
    progress_at_ = now();
    std::vector<wire::Buffer>& buffers = whole.frame.body.buffers;
    for (Part& part : whole.parts) {
      // The head lists as many large buffers as there are parts, and no part is there twice.
      if (part.number > buffers.size() || buffers[part.number - 1].size() != part.buffer.size() ||
          !is_large(part.buffer.size())) {
        return lost(failed("link to {}: a frame's buffer is not what its head says", peer().name));
      }
      buffers[part.number - 1] = std::move(part.buffer);
    }
    if (!arrived({whole.frame.header, nullptr, std::move(whole.frame.body)})) return;
  }
  if (is_shut()) return;
  if (broken_) {
    if (is_closing()) return drained();
    return lost(std::move(*broken_).within(fmt::format("link to {}", peer().name)));
  }
  // Something later came, and what is due does not: heartbeats alone would hide that.
  if (!arriving_.empty() && arriving_.front().parts.empty() && now() - progress_at_ > core().options().silence_limit &&
      core().options().heartbeat_every.count() > 0) {
    lost(failed("link to {}: frame {} is missing", peer().name, next_));
  }
}

// One byte says that the peer has joined. Then the connection carries nothing: it ends when the peer has closed the
// link, or is dead.
void UcxLink::watch() {
  watch_.async_read_some(boost::asio::buffer(watched_), [self = self()](const error_code& error, size_t) {
    if (self->is_shut()) return;
    if (error) return self->is_closing() ? self->drained() : self->peer_ended();
    self->ready_ = true;
    self->schedule();
    self->watch();
  });
}

void UcxLink::peer_ended() {
  peer_ended_ = true;
  if (!listening_) return;  // until what came is delivered
  grace_ = loop().after(kGrace, [weak = std::weak_ptr<UcxLink>(self())] {
    const auto link = weak.lock();
    if (link && !link->is_shut()) link->lost(failed("{} is gone: the connection broke off", link->peer().name));
  });
}

}  // namespace troupe::net
