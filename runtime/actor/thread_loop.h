// The loop of a real thread: jobs of its own thread, jobs that other threads post, pollers (network devices that
// are asked for work), and Boost.Asio for everything that the operating system has to wait for. An idle loop
// spins for some microseconds, because an answer often comes that soon, and then sleeps at no cost.
#pragma once
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <thread>
#include <vector>

#include "runtime/actor/event_loop.h"
#include "runtime/actor/job_queue.h"
#include "runtime/base/thread_name.h"

namespace troupe::actor {

// A source of work that has to be asked for it, like a UCX worker. Called on the loop's thread.
class Poller {
 public:
  // Does what is there to do, without waiting. True: there was something, so ask again soon.
  virtual bool poll() noexcept = 0;
  // The loop is about to sleep: from here on the source must wake it through io() or post(). False: there is
  // something to do after all, do not sleep.
  virtual bool arm() noexcept = 0;

 protected:
  ~Poller() = default;
};

struct ThreadLoopOptions {
  // How long an idle loop looks for work before it sleeps. Zero on machines with more busy threads than cores.
  std::chrono::nanoseconds spin = std::chrono::microseconds(20);
};

class ThreadLoop final : public EventLoop {
 public:
  explicit ThreadLoop(ThreadLoopOptions options = {});
  // Drops what was posted and has not run, what waits in io(), and what any of that posts as it goes. REQUIRES: not
  // running, and nobody else posts any more.
  ~ThreadLoop() override;
  ThreadLoop(const ThreadLoop&) = delete;
  ThreadLoop& operator=(const ThreadLoop&) = delete;

  // Makes the calling thread the loop's; returns after stop(). May be called again. Jobs do not throw; an
  // exception of a callback ends the program, as in any thread.
  void run();
  // Any thread, also before run(), which then returns at once. Jobs posted before this from the same thread have
  // run when run() returns; others stay for the next run().
  void stop();

  // For sockets and the like, whose handlers run on this loop. Its work never keeps run() from returning.
  boost::asio::io_context& io() { return io_; }
  // Loop thread only, or before run(). The poller outlives its stay here.
  void add_poller(Poller& poller);
  void remove_poller(Poller& poller);

  const Clock& clock() const override { return clock_; }
  bool runs_here() const override { return thread_.load(std::memory_order_relaxed) == std::this_thread::get_id(); }
  void post(Job& job) override;
  void post(std::function<void()> callback) override;
  Timer after(std::chrono::nanoseconds delay, std::function<void()> callback) override;

  // How often it went to sleep. Any thread.
  int64_t sleeps() const { return sleeps_.load(std::memory_order_relaxed); }

 private:
  class TimerEntry;
  struct Io : boost::asio::io_context {
    using io_context::io_context;
    using io_context::shutdown;  // frees what waits, and leaves sockets and timers something to be closed in
  };
  void drop_all();
  bool run_ready(int round);
  void take_turn() {
    if (--countdown_ <= 0) look();
  }
  void look();
  bool poll_pollers();
  bool poll_devices();
  bool spin();
  void sleep();
  void wake();

  const ThreadLoopOptions options_;
  SteadyClock clock_;
  std::vector<Poller*> pollers_;  // outlives what still waits in io_, which may be a poller's last owner
  Io io_;
  std::atomic<std::thread::id> thread_;
  JobQueue ready_;
  int patience_ = 1;  // jobs between two looks at the clock
  int countdown_ = 1;
  std::chrono::nanoseconds polled_at_{0};
  alignas(64) JobInbox inbox_;
  std::atomic<bool> asleep_{false};
  std::atomic<bool> stopped_{false};
  std::atomic<int64_t> sleeps_{0};
};

// A loop and the thread that runs it, until destroyed.
class LoopThread {
 public:
  explicit LoopThread(ThreadLoopOptions options = {})
      : loop_(options), thread_([this] {
          name_this_thread("loop");
          loop_.run();
        }) {}
  ~LoopThread() { join(); }
  // Stops the loop; when this returns, the thread has ended. Not on that thread.
  void join() {
    loop_.stop();
    if (thread_.joinable()) thread_.join();
  }
  ThreadLoop& loop() { return loop_; }

 private:
  ThreadLoop loop_;
  std::thread thread_;
};

}  // namespace troupe::actor
