#include "runtime/net/ucx_worker.h"

#include <ucs/config/global_opts.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "runtime/base/check.h"

namespace troupe::net {
namespace {

constexpr unsigned kMessageId = 1;
// Progress at a time, so that a busy worker leaves the loop to others.
constexpr int kMostProgress = 64;
// Operations whose memory is kept for the next.
constexpr size_t kMostSpare = 256;
constexpr size_t kMostSpareBytes = 64 * 1024;
constexpr std::chrono::seconds kCloseLimit{1};

Error ucx_error(std::string_view what, ucs_status_t status) {
  return environment_error("UCX: {}: {}", what, ucs_status_string(status));
}

}  // namespace

// What stands before every active message. Both ends are of one build.
struct UcxWorker::Message {
  uint64_t link;
  uint64_t sequence;
};
// The same before a piece of a large buffer.
struct UcxWorker::PieceMessage {
  Message message;
  uint64_t part;
  uint64_t offset;
  uint64_t total;
};

// A send or a fetch that UCX has not finished: what its memory belongs to.
struct UcxWorker::Operation {
  UcxWorker* worker;
  uint64_t own;
  PieceMessage header;     // of a send; only its message where it is part 0
  UcxSink::Place place{};  // of a fetch
  std::vector<std::byte> bytes;
  wire::Buffer buffer;
  size_t size;
  std::function<void()> flushed;
  bool pending;
};

UcxWorker::UcxWorker(actor::ThreadLoop& loop, const UcxOptions& options) : loop_(loop), options_(options) {}

Result<std::shared_ptr<UcxWorker>> UcxWorker::create(actor::ThreadLoop& loop, const UcxOptions& options) {
  std::shared_ptr<UcxWorker> worker(new UcxWorker(loop, options));
  TROUPE_TRY(worker->open());
  return worker;
}

Status UcxWorker::open() {
  const auto unset = [](const char* name) { return std::getenv(name) == nullptr; };
  // UCX would print to stdout when a peer dies.
  if (unset("UCX_LOG_LEVEL")) ucs_global_opts_set_value("LOG_LEVEL", "fatal");
  ucp_config_t* config = nullptr;
  if (const ucs_status_t status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK) {
    return ucx_error("bad configuration in the environment", status);
  }
  // Without these, UCX leaves shared memory out where the death of peers matters; sysv segments would outlive us.
  if (unset("UCX_TLS")) ucp_config_modify(config, "TLS", "^sysv");
  if (unset("UCX_POSIX_ERROR_HANDLING") && unset("UCX_MM_ERROR_HANDLING")) {
    ucp_config_modify(config, "MM_ERROR_HANDLING", "y");
  }
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 0;
  ucs_status_t status = ucp_init(&params, config, &context_);
  ucp_config_release(config);
  if (status != UCS_OK) return ucx_error("cannot start", status);

  ucp_worker_params_t worker_params{};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker_params.thread_mode = UCS_THREAD_MODE_SINGLE;
  status = ucp_worker_create(context_, &worker_params, &worker_);
  if (status != UCS_OK) return ucx_error("cannot create a worker", status);
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kMessageId;
  handler.cb = on_message;
  handler.arg = this;
  status = ucp_worker_set_am_recv_handler(worker_, &handler);
  if (status != UCS_OK) return ucx_error("cannot receive", status);
  int wakeup = -1;
  status = ucp_worker_get_efd(worker_, &wakeup);
  if (status != UCS_OK) return ucx_error("cannot wait for events", status);
  const int own = ::dup(wakeup);  // UCX closes its descriptor itself
  if (own < 0) return environment_error("UCX: cannot wait for events: {}", std::strerror(errno));
  wakeup_.emplace(loop_.io(), own);

  ucp_address_t* address = nullptr;
  size_t size = 0;
  status = ucp_worker_get_address(worker_, &address, &size);
  if (status != UCS_OK) return ucx_error("no address", status);
  const auto* bytes = reinterpret_cast<const std::byte*>(address);
  address_.assign(bytes, bytes + size);
  ucp_worker_release_address(worker_, address);
  return {};
}

UcxWorker::~UcxWorker() {
  destroyed_ = true;
  // Endpoints that are being closed need a little progress.
  const auto end = loop_.clock().now() + kCloseLimit;
  while (closing_ > 0 && loop_.clock().now() < end) ucp_worker_progress(worker_);
  if (polled_) loop_.remove_poller(*this);
  wakeup_.reset();
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
}

Result<UcxWorker::Route> UcxWorker::join(std::shared_ptr<UcxSink> sink, std::span<const std::byte> peer_address,
                                         uint64_t own, uint64_t peer) {
  ucp_ep_params_t params{};
  params.field_mask =
      UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(peer_address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler = {on_error, this};
  Route route{nullptr, own, peer};
  if (const ucs_status_t status = ucp_ep_create(worker_, &params, &route.endpoint); status != UCS_OK) {
    return ucx_error("no way to the peer", status);
  }
  sinks_[own] = std::move(sink);
  endpoints_[route.endpoint] = own;
  if (!polled_) {
    polled_ = true;
    loop_.add_poller(*this);
    look();
  }
  return route;
}

void UcxWorker::leave(const Route& route) {
  sinks_.erase(route.own);
  endpoints_.erase(route.endpoint);
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.flags = UCP_EP_CLOSE_FLAG_FORCE;
  params.user_data = this;
  params.cb.send = [](void* request, ucs_status_t, void* self) {
    --static_cast<UcxWorker*>(self)->closing_;
    ucp_request_free(request);
  };
  const ucs_status_ptr_t request = ucp_ep_close_nbx(route.endpoint, &params);
  if (UCS_PTR_IS_PTR(request)) ++closing_;
}

UcxWorker::Operation& UcxWorker::take_operation(uint64_t own) {
  if (spare_.empty()) {
    operations_.push_back(std::make_unique<Operation>());
    spare_.push_back(operations_.back().get());
  }
  Operation& operation = *spare_.back();
  spare_.pop_back();
  operation.worker = this;
  operation.own = own;
  operation.pending = false;
  return operation;
}

void UcxWorker::give_back(Operation& operation) {
  operation.buffer = {};
  operation.flushed = nullptr;
  operation.bytes.clear();
  if (operation.bytes.capacity() > kMostSpareBytes) operation.bytes = {};
  spare_.push_back(&operation);
  // A burst is not remembered for ever.
  if (spare_.size() <= kMostSpare || spare_.size() < operations_.size()) return;
  operations_.resize(kMostSpare / 2);
  spare_.clear();
  for (const auto& kept : operations_) spare_.push_back(kept.get());
}

void UcxWorker::start_send(const Route& route, Operation& operation, std::span<const std::byte> data, bool rendezvous) {
  operation.size = data.size();
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = rendezvous ? UCP_AM_SEND_FLAG_RNDV : 0;
  params.user_data = &operation;
  params.cb.send = [](void* request, ucs_status_t status, void* user) {
    auto& done = *static_cast<Operation*>(user);
    ucp_request_free(request);
    UcxWorker& worker = *done.worker;
    if (const auto sink = worker.sink_of(done.own)) {
      if (status == UCS_OK) {
        sink->sent(done.size);
      } else {
        sink->broke(failed("{}", ucs_status_string(status)));
      }
      worker.note(done.own);
    }
    if (!worker.destroyed_) worker.give_back(done);
  };
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(route.endpoint, kMessageId, &operation.header,
                      rendezvous ? sizeof(PieceMessage) : sizeof(Message), data.data(), data.size(), &params);
  if (UCS_PTR_IS_PTR(request)) {
    operation.pending = true;
    return;
  }
  const std::shared_ptr<UcxSink> sink = sink_of(route.own);
  TROUPE_CHECK(sink != nullptr, "a link sends after it has left");
  if (UCS_PTR_IS_ERR(request)) {
    sink->broke(failed("{}", ucs_status_string(UCS_PTR_STATUS(request))));
    note(route.own);
  } else {
    sink->sent(data.size());
  }
}

void UcxWorker::send(const Route& route, uint64_t sequence, std::span<const std::byte> bytes) {
  Operation& operation = take_operation(route.own);
  operation.header.message = {route.peer, sequence};
  operation.bytes.assign(bytes.begin(), bytes.end());
  start_send(route, operation, operation.bytes, false);
  if (!operation.pending) give_back(operation);
}

void UcxWorker::send(const Route& route, const UcxSink::Place& place, size_t size, wire::Buffer buffer) {
  Operation& operation = take_operation(route.own);
  operation.header = {{route.peer, place.sequence}, place.part, place.offset, place.total};
  operation.buffer = std::move(buffer);
  start_send(route, operation, operation.buffer.bytes().subspan(place.offset, size), true);
  if (!operation.pending) give_back(operation);
}

void UcxWorker::flush(const Route& route, std::function<void()> flushed) {
  Operation& operation = take_operation(route.own);
  operation.flushed = std::move(flushed);
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.user_data = &operation;
  params.cb.send = [](void* request, ucs_status_t, void* user) {
    auto& done = *static_cast<Operation*>(user);
    ucp_request_free(request);
    UcxWorker& worker = *done.worker;
    if (worker.destroyed_) return;
    if (worker.sink_of(done.own) != nullptr) worker.callbacks_.push_back(std::move(done.flushed));
    worker.give_back(done);
  };
  const ucs_status_ptr_t request = ucp_ep_flush_nbx(route.endpoint, &params);
  if (UCS_PTR_IS_PTR(request)) return;
  auto callback = std::move(operation.flushed);
  give_back(operation);
  loop_.post(std::move(callback));
}

std::shared_ptr<UcxSink> UcxWorker::sink_of(uint64_t own) {
  const auto found = sinks_.find(own);
  return destroyed_ || found == sinks_.end() ? nullptr : found->second.lock();
}

void UcxWorker::note(uint64_t own) {
  if (noted_.empty() || noted_.back() != own) noted_.push_back(own);
}

ucs_status_t UcxWorker::on_message(void* self, const void* header, size_t header_size, void* data, size_t size,
                                   const ucp_am_recv_param_t* param) {
  PieceMessage piece{};
  if (header_size != sizeof(Message) && header_size != sizeof(PieceMessage)) return UCS_OK;
  std::memcpy(&piece, header, header_size);
  UcxSink::Place place{piece.message.sequence, 0, 0, size};
  if (header_size == sizeof(PieceMessage)) {
    if (piece.part == 0 || piece.part > std::numeric_limits<uint32_t>::max()) return UCS_OK;
    place = {piece.message.sequence, static_cast<uint32_t>(piece.part), piece.offset, piece.total};
  }
  return static_cast<UcxWorker*>(self)->receive(piece.message.link, place, data, size,
                                                (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0);
}

void UcxWorker::fetched(Operation& operation, ucs_status_t status) {
  UcxWorker& worker = *operation.worker;
  if (worker.destroyed_) return;
  if (const auto sink = worker.sink_of(operation.own)) {
    if (status == UCS_OK) {
      sink->piece_ended(operation.place, operation.size);
    } else {
      sink->broke(failed("{}", ucs_status_string(status)));
    }
    worker.note(operation.own);
  }
  worker.give_back(operation);
}

ucs_status_t UcxWorker::receive(uint64_t link, const UcxSink::Place& place, void* data, size_t size, bool rendezvous) {
  const std::shared_ptr<UcxSink> sink = sink_of(link);
  if (sink == nullptr) return UCS_OK;  // a stranger, or a link that has ended
  note(link);
  if (!rendezvous) {
    sink->piece_came(place, {static_cast<const std::byte*>(data), size});
    return UCS_OK;
  }
  UcxSink::Memory memory = sink->piece_begins(place, size);
  if (memory.bytes.size() != size) return UCS_OK;
  Operation& operation = take_operation(link);
  operation.place = place;
  operation.size = size;
  operation.buffer = std::move(memory.buffer);
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.user_data = &operation;
  params.cb.recv_am = [](void* request, ucs_status_t status, size_t, void* user) {
    ucp_request_free(request);
    fetched(*static_cast<Operation*>(user), status);
  };
  const ucs_status_ptr_t request = ucp_am_recv_data_nbx(worker_, data, memory.bytes.data(), size, &params);
  if (!UCS_PTR_IS_PTR(request)) fetched(operation, UCS_PTR_STATUS(request));
  return UCS_INPROGRESS;
}

void UcxWorker::on_error(void* self, ucp_ep_h endpoint, ucs_status_t status) {
  auto& worker = *static_cast<UcxWorker*>(self);
  const auto found = worker.endpoints_.find(endpoint);
  if (worker.destroyed_ || found == worker.endpoints_.end()) return;
  if (const auto sink = worker.sink_of(found->second)) {
    sink->broke(failed("{}", ucs_status_string(status)));
    worker.note(found->second);
  }
}

bool UcxWorker::poll() noexcept {
  bool worked = false;
  for (int i = 0; i < kMostProgress && ucp_worker_progress(worker_) != 0; ++i) worked = true;
  if (noted_.empty() && callbacks_.empty()) return worked;
  tell();
  return true;
}

void UcxWorker::tell() {
  const auto self = shared_from_this();  // the last link may leave
  const std::vector<uint64_t> noted = std::exchange(noted_, {});
  for (const uint64_t own : noted) {
    if (const auto sink = sink_of(own)) sink->noted();
  }
  for (const auto& callback : std::exchange(callbacks_, {})) callback();
  if (sinks_.empty() && closing_ == 0 && polled_) {
    polled_ = false;
    timer_.cancel();
    loop_.remove_poller(*this);
  }
}

bool UcxWorker::arm() noexcept {
  if (!noted_.empty() || !callbacks_.empty()) return false;
  if (ucp_worker_arm(worker_) == UCS_ERR_BUSY) return false;
  watch();
  return true;
}

void UcxWorker::watch() {
  if (std::exchange(watching_, true)) return;
  // What it waited for may be queued behind the end of the last link, and so of this.
  wakeup_->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [weak = weak_from_this()](const boost::system::error_code& error) {
                        const auto self = weak.lock();
                        if (!error && self != nullptr) self->watching_ = false;
                      });
}

void UcxWorker::look() {
  // Waking the loop is enough: it polls.
  timer_ = loop_.after(options_.look_every, [this] { look(); });
}

}  // namespace troupe::net
