// Measures what messages cost between this process and a second one that it starts: through actors over each
// transport, over bare sockets, and by UCX's own tool. No wait is without a deadline, and the second process dies with
// the first.
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "launcher/commands/figures.h"
#include "launcher/commands/link_peer.h"

namespace troupe::launcher {

constexpr size_t kBulkBytes = size_t{64} << 20;

// An actor here that asks one in a process of its own. Blocks.
class LinkedPair {
 public:
  // `peer`: the arguments with which this program is to run serve_link_peer(). Errors: environment, where the
  // transport is not there.
  static Result<std::unique_ptr<LinkedPair>> start(const LinkSetting& setting, const std::vector<std::string>& peer);
  virtual ~LinkedPair() = default;
  // Seconds from ask to answer, one after the other: the median.
  virtual Result<double> round_trip(int64_t asks) = 0;
  // Bytes a second of asks that each bring a buffer of kBulkBytes, two under way.
  virtual Result<double> bulk(int64_t buffers) = 0;
};

// The same bytes over blocking sockets, without any protocol.
class BareSockets {
 public:
  static Result<std::unique_ptr<BareSockets>> start(const std::vector<std::string>& peer);
  virtual ~BareSockets() = default;
  virtual Result<double> round_trip(int64_t count) = 0;
  virtual Result<double> bulk(int64_t buffers) = 0;
};

// Bytes a second of active messages of kBulkBytes between two processes, by ucx_perftest. Errors: environment, where
// it is not installed.
Result<double> ucx_perftest_bulk(int64_t buffers);

// All of it, into `figures`. `scale`: of the number of messages.
Status measure_links(double scale, const std::vector<std::string>& peer, Figures& figures);

}  // namespace troupe::launcher
