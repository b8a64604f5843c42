// An agent starts the ranks of a generation on its host and sees to it that nothing of them is left afterwards. There
// is one on each host, outside of the gang; on a single machine it lives beside the head.
#pragma once
#include <string>
#include <vector>

#include "actors/train/gang_processes.h"
#include "actors/train/trainer_actor.h"
#include "runtime/actor/ref.h"

namespace troupe::train {

struct GangSpec {
  int ranks = 1;
  int64_t generation = 0;
  actor::Ref<HeadActor> head;
};

class AgentActor : public actor::Actor {
 public:
  // All ranks of a new generation, in order, once the last has come up. Error: one did not; end_gang() follows.
  virtual actor::Task<Result<std::vector<actor::Ref<TrainerActor>>>> start_gang(GangSpec spec) = 0;
  // A rank is lost: finds out how, and ends what still lives of the gang; does not wait for it.
  virtual actor::Task<void> kill_gang(std::string reason) = 0;
  // Ends what still lives, and answers when nothing of it is left. Error: what is left.
  virtual actor::Task<Result<GangEnd>> end_gang() = 0;
};

}  // namespace troupe::train
