// What surrounds every line of a handler: its actor, the deadline it inherited from whoever asked, whether it was
// told to stop, and what it waits for at the moment. Awaitables of the runtime derive from Wait.
#pragma once
#include <algorithm>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>
#include <chrono>
#include <coroutine>
#include <string>

#include "runtime/actor/exit.h"
#include "runtime/actor/task.h"

namespace troupe::actor {

class Cell;
class Endpoint;
class Executor;
class Message;
class Wait;
struct MethodInfo;

using Time = std::chrono::nanoseconds;  // of the loop's clock
constexpr Time kNever = Time::max();
// kNever where that is later than any time there is.
constexpr Time deadline_after(Time now, Time timeout) {
  return timeout >= kNever - now ? kNever : now + std::max(timeout, Time(0));
}
// What a thread may be told to wait without its clock overflowing.
constexpr Time kLongestWait = std::chrono::hours(24 * 365 * 100);

namespace intrusive = boost::intrusive;
using AutoUnlink = intrusive::link_mode<intrusive::auto_unlink>;
struct OfScope;
struct OfDeadline;

// Something that a coroutine waits for. Lives in the coroutine's frame and goes with it; ended by whoever comes
// first: the answer, its deadline, or the end of the handler's right to go on. Loop thread only.
class Wait : public intrusive::list_base_hook<AutoUnlink, intrusive::tag<OfScope>>,
             public intrusive::set_base_hook<AutoUnlink, intrusive::tag<OfDeadline>, intrusive::optimize_size<true>> {
 public:
  Wait() = default;
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;
  virtual ~Wait();

  // What came. Afterwards the coroutine goes on.
  virtual void accept(Message& answer);
  // It has ended without an answer. Tells the other side, where there is one, that nobody waits any more.
  virtual void fail(const Error& error) = 0;
  // The deadline has passed.
  virtual Error late() const = 0;
  // "answer of rank 5 to Trainer::step"
  virtual std::string describe() const = 0;
  // Whom it waits for, to find cycles; null: nobody in particular.
  virtual const Endpoint* awaited() const { return nullptr; }

  Time deadline() const { return deadline_; }
  Time since() const { return since_; }
  uint64_t number() const { return number_; }
  Scope& scope() const { return *scope_; }

 protected:
  // Enters the scope's waits. Afterwards number() is what an answer has to name.
  void begin(Scope& scope, std::coroutine_handle<> waiter, Time deadline, Time now);
  // Leaves them; the coroutine goes on by itself.
  void end();
  Executor& executor() const;

 private:
  friend class Executor;
  Scope* scope_ = nullptr;
  std::coroutine_handle<> waiter_;
  Time deadline_ = kNever, since_{0};
  uint64_t number_ = 0;  // 0: not waiting
  uint64_t order_ = 0;   // of waits with one deadline
};

// One run of one handler.
class Scope {
 public:
  Cell* cell = nullptr;
  const MethodInfo* method = nullptr;
  Time deadline = kNever;
  uint64_t trace = 0;
  Cause stopped;  // set: waits end at once with this
  intrusive::list<Wait, intrusive::base_hook<intrusive::list_base_hook<AutoUnlink, intrusive::tag<OfScope>>>,
                  intrusive::constant_time_size<false>>
      waits;

  // Why a wait may not begin; null: it may.
  const Exit* refusal() const { return stopped.get(); }
};

}  // namespace troupe::actor
