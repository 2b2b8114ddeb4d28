// How explorer.hpp runs a schedule and finds the next one. Included by explorer.hpp alone.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "explorer.hpp"

namespace predawn {

inline std::string Trace::text() const {
  std::ostringstream out;
  for (std::size_t i = 0; i < size_; ++i) {
    out << (i == 0 ? "" : ",") << turns_[i].step << "rkso"[static_cast<int>(turns_[i].act)]
        << turns_[i].fiber;
  }
  return out.str();
}

inline Trace Trace::parse(const std::string& text) {
  Trace trace;
  std::istringstream in(text);
  std::string part;
  while (std::getline(in, part, ',') && !trace.full()) {
    Turn turn;
    char act = 'r';
    std::sscanf(part.c_str(), "%u%c%d", &turn.step, &act, &turn.fiber);
    turn.act = act == 'k'   ? Act::kKill
               : act == 's' ? Act::kStop
               : act == 'o' ? Act::kKillOther
                            : Act::kRun;
    trace.add(turn);
  }
  return trace;
}

inline Explorer::Explorer(Scenario scenario, std::size_t states_log2)
    : scenario_(std::move(scenario)),
      stacks_(scenario_.fibers.size()),
      touched_(scenario_.bytes / 4),
      wrote_(scenario_.bytes / 4),
      shared_(scenario_.bytes / 4),
      known_(std::size_t{1} << states_log2) {
  ModelAtomics::listener = this;
  for (int fiber = 0; fiber < static_cast<int>(stacks_.size()); ++fiber) prepare_stack(fiber);
}

// A fiber's first frame stays at the bottom of its stack for ever; a new run jumps back into it.
inline void Explorer::enter(unsigned low, unsigned high) {
  auto* self = reinterpret_cast<Explorer*>(std::uintptr_t{low} | std::uintptr_t{high} << 32);
  const int fiber = self->running_;
  if (_setjmp(self->stack(fiber).start) == 0) self->leave();
  self->scenario_.fibers[static_cast<std::size_t>(self->running_)].body();
  self->stack(self->running_).state = State::kDone;
  ++self->step_;
  self->point(false, false);
  self->leave();
}

inline void Explorer::prepare_stack(int fiber) {
  Stack& at = stack(fiber);
  at.memory = std::make_unique<std::byte[]>(kStack);
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = at.memory.get();
  context.uc_stack.ss_size = kStack;
  context.uc_link = nullptr;
  const auto self = reinterpret_cast<std::uintptr_t>(this);
  running_ = fiber;
  makecontext(&context, reinterpret_cast<void (*)()>(&Explorer::enter), 2,
              static_cast<unsigned>(self), static_cast<unsigned>(self >> 32));
  if (_setjmp(home_) == 0) setcontext(&context);
  running_ = kNobody;
}

inline void Explorer::run_once(const Trace& prefix, Mode mode) {
  running_ = kNobody;
  scenario_.reset();
  mode_ = mode;
  prefix_ = trace_ = prefix;
  next_turn_ = 0;
  step_ = 0;
  words_ = ghosts_ = 0;
  spent_ = {};
  is_quiet_ = false;
  for (Stack& at : stacks_) {
    at.state = State::kReady;
    at.is_fresh = true;
    at.seen = 0;
  }
  ++schedules_;
  const int how = _setjmp(home_);
  if (how == 0) {
    point(false, false);
  } else if (how == 1 && failure_.property == nullptr) {
    running_ = kNobody;
    if (_setjmp(home_) == 0) scenario_.finish();
  }
  running_ = kNobody;
}

inline void Explorer::fail(const char* property) {
  failure_ = {property, trace_};
  _longjmp(home_, 2);
}

inline void Explorer::check(bool holds, const char* property) {
  if (!holds) fail(property);
}

inline void Explorer::note(std::uint64_t ghost) noexcept {
  if (running_ != kNobody) stack(running_).seen = mix(stack(running_).seen ^ ghost);
}

inline void Explorer::has_read(std::uint64_t value) noexcept { note(value + 1); }

inline void Explorer::has_written(const void* at, std::uint64_t old, std::uint64_t now) noexcept {
  const std::uint64_t place = mix(unit_of(at));
  words_ += mix(now ^ place) - mix(old ^ place);
  scenario_.wrote(at, old, now);
}

inline void Explorer::touch(const void* at, bool writes) noexcept {
  const std::size_t unit = unit_of(at);
  const auto bit = static_cast<std::uint8_t>(1u << running_);
  touched_[unit] |= bit;
  if (writes) wrote_[unit] |= bit;
  const bool is_shared = wrote_[unit] != 0 && (touched_[unit] & (touched_[unit] - 1)) != 0;
  if (is_shared && shared_[unit] == 0) {
    shared_[unit] = 1;
    has_new_shared_ = true;
  }
}

inline void Explorer::before(const void* at, bool writes) noexcept {
  if (running_ == kNobody) return;
  ++step_;
  if (step_ > kStepsMax) fail("finishes in a bounded number of steps");
  touch(at, writes);
  const bool has_turn = next_turn_ < prefix_.size() && prefix_[next_turn_].step == step_;
  if (!is_quiet_ && (has_turn || shared_[unit_of(at)] != 0)) point(true, false);
  note(0);
}

inline void Explorer::look() noexcept {
  if (running_ == kNobody) return;
  ++step_;
  point(true, true);
  note(0);
}

// Here another fiber may run. Comes back when the running fiber runs on.
inline void Explorer::point(bool can_go_on, bool is_look) {
  if (next_turn_ < prefix_.size()) {
    if (prefix_[next_turn_].step == step_) {
      take(prefix_[next_turn_++], can_go_on);
    } else if (!can_go_on) {
      pass_to(first_ready(kNobody));
    }
    return;
  }
  if (mode_ == Mode::kSearch) {
    if (is_known_state()) _longjmp(home_, 3);
    offer(can_go_on, is_look);
  } else if (mode_ == Mode::kWalk) {
    return draw(can_go_on, is_look);
  }
  if (!can_go_on) pass_to(first_ready(kNobody));
}

inline int Explorer::first_ready(int but) const noexcept {
  for (int fiber = 0; fiber < static_cast<int>(stacks_.size()); ++fiber) {
    if (fiber != but && state(fiber) == State::kReady) return fiber;
  }
  return kNobody;
}

inline void Explorer::push(Turn turn) {
  if (prefix_.full()) return;
  Trace longer = prefix_;
  longer.add(turn);
  todo_.push_back(longer);
}

// Remembers every other way to go on from here.
inline void Explorer::offer(bool can_go_on, bool is_look) {
  const int usual = can_go_on ? running_ : first_ready(kNobody);
  const bool may_end =
      can_go_on && scenario_.fibers[static_cast<std::size_t>(running_)].may_end && !is_look;
  const bool may_kill = may_end && spent_.kills < limits_.kills;
  const bool may_stop = may_end && spent_.stops < limits_.stops;
  bool has_other = false;
  for (int fiber = 0; fiber < static_cast<int>(stacks_.size()); ++fiber) {
    if (fiber == usual || state(fiber) != State::kReady) continue;
    has_other = true;
    if (!can_go_on || spent_.preemptions < limits_.preemptions) {
      push({step_, Act::kRun, fiber});
    }
    if (may_kill) push({step_, Act::kKill, fiber});
    if (may_stop) push({step_, Act::kStop, fiber});
    if (is_look && spent_.kills < limits_.kills &&
        scenario_.fibers[static_cast<std::size_t>(fiber)].may_end) {
      push({step_, Act::kKillOther, fiber});
    }
  }
  if (!has_other && may_kill) push({step_, Act::kKill, kNobody});
  if (!has_other && may_stop) push({step_, Act::kStop, kNobody});
}

// Draws how to go on.
inline void Explorer::draw(bool can_go_on, bool is_look) {
  int others[8];
  std::size_t count = 0;
  for (int fiber = 0; fiber < static_cast<int>(stacks_.size()); ++fiber) {
    if (state(fiber) == State::kReady && !(can_go_on && fiber == running_)) others[count++] = fiber;
  }
  const int other = count == 0 ? kNobody : others[random_() % count];
  if (!can_go_on) {
    const int usual = first_ready(kNobody);
    if (other == usual || trace_.full()) return pass_to(usual);
    trace_.add({step_, Act::kRun, other});
    return pass_to(other);
  }
  if (trace_.full() || random_() % switch_in_ != 0) return;
  const bool may_end = scenario_.fibers[static_cast<std::size_t>(running_)].may_end && !is_look;
  const auto way = random_() % 8;
  Turn turn{step_, Act::kRun, other};
  if (way == 0 && may_end && spent_.kills < limits_.kills) turn.act = Act::kKill;
  if (way == 1 && may_end && spent_.stops < limits_.stops) turn.act = Act::kStop;
  if (way < 4 && is_look && other != kNobody && spent_.kills < limits_.kills &&
      scenario_.fibers[static_cast<std::size_t>(other)].may_end) {
    turn.act = Act::kKillOther;
  }
  if (turn.act == Act::kRun && (other == kNobody || spent_.preemptions >= limits_.preemptions)) {
    return;
  }
  trace_.add(turn);
  take(turn, true);
}

inline void Explorer::take(Turn turn, bool can_go_on) {
  switch (turn.act) {
    case Act::kKillOther:
      ++spent_.kills;
      stack(turn.fiber).state = State::kDead;
      return;
    case Act::kKill:
      ++spent_.kills;
      stack(running_).state = State::kDead;
      break;
    case Act::kStop:
      ++spent_.stops;
      stack(running_).state = State::kStopped;
      break;
    case Act::kRun:
      spent_.preemptions += can_go_on ? 1 : 0;
      break;
  }
  pass_to(turn.fiber);
}

inline void Explorer::pass_to(int fiber) {
  if (fiber == kNobody) leave();
  if (running_ != kNobody && state(running_) == State::kReady) {
    const int self = running_;
    if (_setjmp(stack(self).at) != 0) return;
  }
  running_ = fiber;
  Stack& next = stack(fiber);
  if (!next.is_fresh) _longjmp(next.at, 1);
  next.is_fresh = false;
  _longjmp(next.start, 1);
}

inline bool Explorer::is_known_state() noexcept {
  std::uint64_t hash = mix(words_) ^ mix(ghosts_ + 1);
  for (std::size_t i = 0; i < stacks_.size(); ++i) {
    hash = mix(hash ^ stacks_[i].seen ^ static_cast<std::uint64_t>(stacks_[i].state));
  }
  hash = mix(hash ^ static_cast<std::uint64_t>(running_ + 1) ^ std::uint64_t{spent_.kills} << 8 ^
             std::uint64_t{spent_.stops} << 16);
  std::uint64_t& known = known_[hash & (known_.size() - 1)];
  const std::uint64_t left = limits_.preemptions - spent_.preemptions;
  const std::uint64_t tag = (hash & ~std::uint64_t{0xff}) | 0x80;
  if ((known & ~std::uint64_t{0x7f}) == tag && (known & 0x7f) >= left) return true;
  known = tag | left;
  return false;
}

inline bool Explorer::explore(Limits limits, std::uint64_t most) {
  limits_ = limits;
  const std::uint64_t end = most == UINT64_MAX ? most : schedules_ + most;
  is_complete_ = false;
  do {
    has_new_shared_ = false;
    std::fill(known_.begin(), known_.end(), 0);
    todo_.assign(1, Trace());
    while (!todo_.empty() && !has_new_shared_) {
      if (schedules_ >= end) return true;
      const Trace next = todo_.back();
      todo_.pop_back();
      run_once(next, Mode::kSearch);
      if (failure_.property != nullptr) return false;
    }
  } while (has_new_shared_);
  is_complete_ = true;
  complete_preemptions_ = static_cast<int>(limits.preemptions);
  return true;
}

inline bool Explorer::walk(Limits limits, std::uint64_t seed, std::uint64_t schedules) {
  limits_ = limits;
  for (std::uint64_t i = 0; i < schedules; ++i) {
    random_.seed(seed + i);
    switch_in_ = 1u << random_() % 7;
    run_once(Trace(), Mode::kWalk);
    if (failure_.property != nullptr) return false;
  }
  return true;
}

inline bool Explorer::replay(const Trace& trace) {
  run_once(trace, Mode::kReplay);
  return failure_.property == nullptr;
}

}  // namespace predawn
