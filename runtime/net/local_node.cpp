#include "runtime/net/local_node.h"

#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/base/file.h"
#include "runtime/wire/bytes.h"
#include "runtime/wire/frame.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace troupe::net {
namespace {

std::string hexadecimal(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(b));
  return text;
}

// Called for the program itself first: looks through its notes.
int find_build_id(dl_phdr_info* info, size_t, void* found) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* at = reinterpret_cast<const std::byte*>(info->dlpi_addr + segment.p_vaddr);
    const std::byte* end = at + segment.p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof(note));
      const std::byte* name = at + sizeof(note);
      const std::byte* content = name + (note.n_namesz + 3) / 4 * 4;
      at = content + (note.n_descsz + 3) / 4 * 4;
      if (at > end) break;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0) {
        *static_cast<std::string*>(found) = hexadecimal({content, note.n_descsz});
        return 1;
      }
    }
  }
  return 1;  // only the program, not its libraries
}

}  // namespace

LocalNode::LocalNode(Peer self, std::string build, std::string token)
    : self_(std::move(self)), build_(std::move(build)), token_(std::move(token)), generation_(self_.generation) {
  TROUPE_CHECK(!token_.empty(), "a node needs the job's token");
}

Result<Peer> LocalNode::here(std::string name, uint64_t generation) {
  const wire::Nonce random = TROUPE_TRY(wire::random_nonce());
  std::array<char, HOST_NAME_MAX + 1> host{};
  ::gethostname(host.data(), host.size() - 1);
  return Peer{wire::load<uint64_t>(random.data()) | 1, std::move(name), host.data(), ::getpid(), generation};
}

void LocalNode::enter_generation(uint64_t generation) {
  TROUPE_CHECK(generation_.exchange(generation) <= generation, "generations never go back");
}

wire::Identity LocalNode::identity(const LinkOptions& options) const {
  wire::Identity identity;
  identity.node = self_.node;
  identity.name = self_.name;
  identity.host = self_.host;
  identity.pid = self_.pid;
  identity.generation = generation();
  identity.build = build_;
  identity.window = options.window;
  identity.window_bytes = options.window_bytes;
  identity.max_frame_bytes = options.max_frame_bytes;
  identity.max_buffer_bytes = options.max_buffer_bytes;
  identity.heartbeat_every_ms = std::max<int64_t>(options.heartbeat_every.count(), 0);
  return identity;
}

std::string program_build() {
  std::string found;
  ::dl_iterate_phdr(find_build_id, &found);
  if (!found.empty()) return found;
  const auto file = MappedFile::open("/proc/self/exe");
  if (!file.ok()) return "unknown";
  return fmt::format("{:016x}", XXH3_64bits(file->bytes().data(), file->bytes().size()));
}

Peer peer_of(const wire::Identity& identity) {
  return {identity.node, identity.name, identity.host, identity.pid, identity.generation};
}

void check(const LinkOptions& options) {
  TROUPE_CHECK(options.window > 0 && options.window_bytes > 0, "a link's window is empty");
  TROUPE_CHECK(options.max_frame_bytes > 0 && options.max_frame_bytes <= wire::kMostWordsBytes,
               "frames of {} bytes: a link takes 1 to {}", options.max_frame_bytes, wire::kMostWordsBytes);
  TROUPE_CHECK(options.max_buffer_bytes > 0, "a link takes buffers of {} bytes", options.max_buffer_bytes);
  TROUPE_CHECK(options.heartbeat_every <= std::chrono::hours(24), "a sign of life every {} ms",
               options.heartbeat_every.count());
}

LinkOptions joint_options(LinkOptions own, const wire::Identity& peer) {
  own.window = std::min(own.window, peer.window);
  own.window_bytes = std::min(own.window_bytes, peer.window_bytes);
  own.max_frame_bytes = std::min(own.max_frame_bytes, peer.max_frame_bytes);
  own.max_buffer_bytes = std::min(own.max_buffer_bytes, peer.max_buffer_bytes);
  const std::chrono::milliseconds theirs(peer.heartbeat_every_ms), none(0);
  if (own.heartbeat_every <= none || (theirs > none && theirs < own.heartbeat_every)) own.heartbeat_every = theirs;
  own.silence_limit = std::max(own.silence_limit, 2 * own.heartbeat_every);
  return own;
}

Result<Introduction> introduce(const LocalNode& dialer, const LinkOptions& of_dialer, const LocalNode& listener,
                               const LinkOptions& of_listener) {
  if (dialer.token() != listener.token()) return failed("wrong token");
  const wire::Identity ours = dialer.identity(of_dialer), theirs = listener.identity(of_listener);
  TROUPE_TRY(check_identity(theirs, ours, wire::Handshake::Role::listener));
  TROUPE_TRY(check_identity(ours, theirs, wire::Handshake::Role::dialer));
  return Introduction{peer_of(ours), peer_of(theirs), joint_options(of_dialer, theirs),
                      joint_options(of_listener, ours)};
}

}  // namespace troupe::net
