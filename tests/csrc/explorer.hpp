// Runs a few operations over shared words in every order worth trying, one access at a time.
//
// What: `Explorer`: fibers, the schedules of one scenario, kill and stop; `Limits`; `Failure`.
// When not: what is right (set_model.hpp says), weak memory (model_atomics.hpp).
// Functions: `explore`: depth first over all schedules with at most so many preemptions, kills and
//   stops; `walk`: schedules drawn by a seed; `replay`: one schedule from its trace.
// Design: every schedule runs from the start. A trace lists where it leaves the default course,
//   which is: go on with the same fiber, and after its end with the first one that can run. Steps
//   count all accesses, so a trace stays good whatever else is learnt. Two prunings, both exact:
//   - An access to a word that in no schedule so far was written by one fiber and touched by
//     another commutes with everything; nothing is tried there. When a word turns out to be
//     shared after all, the search starts again.
//   - A state (words, what each fiber has read, who runs) that was met before with as many
//     preemptions left is not entered again. States are compared by 64-bit hashes.
//   Killed and stopped fibers never run again; `is_dead` tells them apart. A fiber may not own
//   memory: one that is left behind is never unwound.
// Memory: 8 bytes a remembered state, 256 KiB a fiber. Cost: about 10 ns a step.
#pragma once

#include <ucontext.h>

#include <csetjmp>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "model_atomics.hpp"

namespace predawn {

inline constexpr int kNobody = -1;

struct Limits {
  unsigned preemptions = 2;
  unsigned kills = 0;
  unsigned stops = 0;
};

enum class Act : std::uint8_t { kRun, kKill, kStop, kKillOther };

// At `step`: kRun, run `fiber` instead; kKill, kStop: the running fiber ends, `fiber` is next;
// kKillOther: `fiber` is killed, the running one goes on.
struct Turn {
  std::uint32_t step = 0;
  Act act = Act::kRun;
  int fiber = kNobody;
};

class Trace {
 public:
  static constexpr std::size_t kTurns = 15;
  void add(Turn turn) noexcept { turns_[size_++] = turn; }
  [[nodiscard]] bool full() const noexcept { return size_ == kTurns; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] const Turn& operator[](std::size_t i) const noexcept { return turns_[i]; }
  [[nodiscard]] std::string text() const;
  static Trace parse(const std::string& text);

 private:
  Turn turns_[kTurns] = {};
  std::size_t size_ = 0;
};

struct Failure {
  const char* property = nullptr;
  Trace trace;
};

struct Fiber {
  std::function<void()> body;
  bool may_end = false;  // killed or stopped
};

// What a scenario is made of, as far as the explorer must know.
struct Scenario {
  void* words = nullptr;  // all shared memory
  std::size_t bytes = 0;
  std::vector<Fiber> fibers;
  std::function<void()> reset;                                           // to the start
  std::function<void(const void*, std::uint64_t, std::uint64_t)> wrote;  // after every write
  std::function<void()> finish;                                          // checks at the end
};

class Explorer final : public Listener {
 public:
  explicit Explorer(Scenario scenario, std::size_t states_log2 = 20);
  ~Explorer() override { ModelAtomics::listener = nullptr; }
  Explorer(const Explorer&) = delete;
  Explorer& operator=(const Explorer&) = delete;

  // True: nothing failed. `most`: stop after so many schedules.
  bool explore(Limits limits, std::uint64_t most = UINT64_MAX);
  bool walk(Limits limits, std::uint64_t seed, std::uint64_t schedules);
  bool replay(const Trace& trace);

  [[nodiscard]] std::uint64_t schedules() const noexcept { return schedules_; }
  [[nodiscard]] bool is_complete() const noexcept { return is_complete_; }
  // All schedules with up to so many preemptions hold; -1: not even without any.
  [[nodiscard]] int complete_preemptions() const noexcept { return complete_preemptions_; }
  [[nodiscard]] const Failure& failure() const noexcept { return failure_; }

  // For the scenario. None of them is an access but `look`, which is where a kill can be seen.
  void check(bool holds, const char* property);
  void note(std::uint64_t ghost) noexcept;  // mixes what the running fiber remembers into the state
  void note_shared(std::uint64_t ghost) noexcept { ghosts_ += mix(ghost); }
  void look() noexcept;
  void set_quiet(bool quiet) noexcept { is_quiet_ = quiet; }  // no scheduling, in a fiber
  [[nodiscard]] int running() const noexcept { return running_; }
  [[nodiscard]] bool is_dead(int fiber) const noexcept { return state(fiber) == State::kDead; }
  [[nodiscard]] bool has_ended(int fiber) const noexcept { return state(fiber) == State::kDone; }

  void before(const void* at, bool writes) noexcept override;
  void has_read(std::uint64_t value) noexcept override;
  void has_written(const void* at, std::uint64_t old, std::uint64_t now) noexcept override;

 private:
  enum class State : std::uint8_t { kReady, kDone, kDead, kStopped };
  enum class Mode : std::uint8_t { kReplay, kSearch, kWalk };
  static constexpr std::size_t kStack = 256 * 1024;
  static constexpr std::uint32_t kStepsMax = 2'000'000;

  struct Stack {
    std::unique_ptr<std::byte[]> memory;
    jmp_buf start;
    jmp_buf at;
    State state = State::kReady;
    bool is_fresh = true;
    std::uint64_t seen = 0;
  };
  struct Spent {
    unsigned preemptions = 0, kills = 0, stops = 0;
  };

  static std::uint64_t mix(std::uint64_t x) noexcept {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  [[nodiscard]] State state(int fiber) const noexcept {
    return stacks_[static_cast<std::size_t>(fiber)].state;
  }
  [[nodiscard]] Stack& stack(int fiber) noexcept {
    return stacks_[static_cast<std::size_t>(fiber)];
  }
  [[nodiscard]] std::size_t unit_of(const void* at) const noexcept {
    return static_cast<std::size_t>(static_cast<const std::byte*>(at) -
                                    static_cast<const std::byte*>(scenario_.words)) /
           4;
  }

  static void enter(unsigned low, unsigned high);
  void prepare_stack(int fiber);
  void run_once(const Trace& prefix, Mode mode);
  [[noreturn]] void leave() noexcept { _longjmp(home_, 1); }
  [[noreturn]] void fail(const char* property);
  void touch(const void* at, bool writes) noexcept;
  void point(bool can_go_on, bool is_look);
  void offer(bool can_go_on, bool is_look);
  void draw(bool can_go_on, bool is_look);
  bool is_known_state() noexcept;
  void take(Turn turn, bool can_go_on);
  void pass_to(int fiber);
  [[nodiscard]] int first_ready(int but) const noexcept;
  void push(Turn turn);

  Scenario scenario_;
  std::vector<Stack> stacks_;
  std::vector<std::uint8_t> touched_, wrote_, shared_;
  std::vector<std::uint64_t> known_;
  std::vector<Trace> todo_;
  jmp_buf home_;
  Mode mode_ = Mode::kReplay;
  Limits limits_;
  Spent spent_;
  Trace prefix_, trace_;
  std::size_t next_turn_ = 0;
  std::uint32_t step_ = 0;
  int running_ = kNobody;
  bool is_quiet_ = false;
  bool has_new_shared_ = false;
  bool is_complete_ = false;
  int complete_preemptions_ = -1;
  std::uint64_t words_ = 0, ghosts_ = 0, schedules_ = 0;
  std::mt19937_64 random_;
  unsigned switch_in_ = 1;
  Failure failure_;
};

}  // namespace predawn

#include "explorer_run.hpp"
