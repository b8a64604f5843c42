// Communicators whose ranks are threads: the conformance suite, and what only threads can show.
#include "tests/unit/comm/conformance.h"

namespace troupe::parallel {
namespace {

INSTANTIATE_TEST_SUITE_P(Threads, Conformance,
                         testing::Values(self_world(), thread_world(1), thread_world(2), thread_world(3),
                                         thread_world(4), thread_world(7)),
                         world_name);
INSTANTIATE_TEST_SUITE_P(Threads, Failures, testing::Values(thread_world(2), thread_world(4)), world_name);

}  // namespace
}  // namespace troupe::parallel
