// Links over UCX: shared memory between processes of one host, the network (InfiniBand, else TCP) between hosts.
// Buffers from wire::kRendezvousBytes on are fetched by the receiver straight into their final memory.
//
// Nodes meet over TCP first (socket_door.h): there the token is proved, and the addresses of the UCX workers and a
// secret number for the link are exchanged; frames without that number are ignored. The TCP connection stays, silent:
// the operating system closes it when a process dies, which shared memory alone would not tell.
#pragma once
#include "runtime/actor/thread_loop.h"
#include "runtime/net/local_node.h"

namespace troupe::net {

struct UcxOptions {
  // UCX can miss a wakeup: an idle loop with links looks at least this often.
  std::chrono::milliseconds look_every{20};
};

// False in a build without UCX (TROUPE_UCX).
bool has_ucx();

// One worker, polled by the loop. REQUIRES: loop and node outlive the transport and its links; on the loop's thread,
// or before it runs. Unless the environment says otherwise (UCX_TLS, UCX_POSIX_ERROR_HANDLING), uses all of UCX's
// transports that tell of a peer's death. Errors (environment): this build or machine has no UCX.
Result<std::unique_ptr<Transport>> make_ucx_transport(actor::ThreadLoop& loop, const LocalNode& node,
                                                      const LinkOptions& options = {}, const UcxOptions& ucx = {});

}  // namespace troupe::net
