#include "parallel/schedule/instruction.h"

#include <gtest/gtest.h>

namespace troupe::parallel {
namespace {

TEST(Instruction, SaysWhatItIs) {
  EXPECT_EQ((Instruction{.action = Action::forward, .microbatch = 3, .virtual_stage = 1, .unit = 5}).to_string(),
            "forward, microbatch 3, virtual stage 1, unit 5");
  EXPECT_EQ(
      (Instruction{.action = Action::backward, .part = GradientPart::weights, .microbatch = 0, .unit = 5}).to_string(),
      "backward of weights, microbatch 0, unit 5");
  EXPECT_EQ((Instruction{.action = Action::receive_activation,
                         .phase = Phase::finish,
                         .operation = OperationKind::receive,
                         .group = Group::pipeline,
                         .elements = 64,
                         .peer = 2,
                         .tag = 14,
                         .microbatch = 3,
                         .virtual_stage = 1})
                .to_string(),
            "finish receive_activation, microbatch 3, virtual stage 1: receive of 64 from stage 2 with tag 14");
  EXPECT_EQ((Instruction{.action = Action::gather_parameters,
                         .phase = Phase::start,
                         .operation = OperationKind::all_gather,
                         .group = Group::replicas,
                         .elements = 4096,
                         .unit = 5,
                         .bucket = 0})
                .to_string(),
            "start gather_parameters, unit 5, bucket 0: all_gather of 4096 in group \"data\"");
  EXPECT_EQ((Instruction{.action = Action::release_parameters, .unit = 2}).to_string(), "release_parameters, unit 2");
}

TEST(Instruction, AFinishNamesItsStart) {
  const Instruction start{.action = Action::sum_totals, .phase = Phase::start, .operation = OperationKind::all_reduce};
  Instruction finish = start;
  finish.phase = Phase::finish;
  EXPECT_NE(finish, start);
  EXPECT_EQ(finish.started(), start);
}

}  // namespace
}  // namespace troupe::parallel
