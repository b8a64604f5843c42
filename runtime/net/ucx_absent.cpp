// Stands in for ucx.cpp in a build without UCX.
#include "runtime/net/ucx.h"

namespace troupe::net {

bool has_ucx() { return false; }

Result<std::unique_ptr<Transport>> make_ucx_transport(actor::ThreadLoop&, const LocalNode&, const LinkOptions&,
                                                      const UcxOptions&) {
  return environment_error("this program was built without UCX (TROUPE_UCX)");
}

}  // namespace troupe::net
