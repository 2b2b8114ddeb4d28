// This process's part in a store: joining it, being seen alive, leaving it.
//
// What: `Membership`; `boot_id`.
// When not: opening and mapping files (segment.hpp).
// Functions: `join` once; `ensure_own` before anything that writes, from any thread; `is_alive`
// from
//   any thread; `leave` any number of times. StoreError: see attachments.hpp.
// Design: all comings and goings happen under the attach lock. Who leaves last, with no claim under
//   way, notes a clean stop and the host's run (boot id): what was only in memory may be lost with
//   the host. Who comes first finds that note and starts at once, or keeps the attach lock until
//   the store has been checked (`must_recover` .. `recovered`), so that others wait meanwhile. A
//   child of fork is nobody until its first `ensure_own`, and somebody else than its parent then.
//   (1) is_clean.store(release) / load(acquire): with the file locks, who sees a clean stop sees
//       all that was written before it.
//   (2) epoch_.store(release) / load(acquire): who sees this process's epoch sees its attachment.
// Memory: the pool's. Cost: `ensure_own` two loads, `is_alive` a system call.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <fstream>
#include <mutex>
#include <string>

#include "attachments.hpp"
#include "fork_epoch.hpp"
#include "journal_pool.hpp"
#include "own_file.hpp"

namespace predawn {

using BootId = std::array<std::uint8_t, 16>;

// Of the host's run; all zeros when it cannot be read, which never counts as the same.
[[nodiscard]] inline BootId boot_id() {
  BootId id{};
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  std::getline(file, text);
  std::size_t digits = 0;
  for (const char c : text) {
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && (c < 'a' || c > 'f')) continue;
    if (digits == 2 * id.size()) break;
    const int value = is_digit ? c - '0' : c - 'a' + 10;
    id[digits / 2] = static_cast<std::uint8_t>(id[digits / 2] * 16 + value);
    ++digits;
  }
  return id;
}

class Membership {
 public:
  Membership(OwnFile* file, Preamble* preamble, std::string path, bool is_anonymous,
             std::int64_t timeout_ms)
      : file_(file),
        preamble_(preamble),
        path_(std::move(path)),
        is_anonymous_(is_anonymous),
        timeout_ms_(timeout_ms),
        pool_(preamble->journal, &preamble->state) {}

  // `is_at_rest()`: whether what a clean stop promises can be seen in the store, too.
  template <class IsAtRest>
  void join(bool is_new, IsAtRest&& is_at_rest) {
    AttachLock lock(file_->fd(), timeout_ms_, path_);
    has_locks_ = lock.is_supported();
    if (!has_locks_ && !is_anonymous_) {
      throw StoreError("store '" + path_ +
                       "': its file system has no file locks (F_OFD_SETLK), without which nobody "
                       "can tell who is alive: put it on a local file system or use an anonymous "
                       "store");
    }
    const bool is_alone = !is_new && !has_others(file_->fd());
    enter(is_alone);
    if (is_alone && stopped_clean() && is_at_rest()) {
      start_anew();
    } else if (is_alone) {
      must_recover_.store(true, std::memory_order_relaxed);
      lock.keep();
    }
    preamble_->state.is_clean.store(0, std::memory_order_relaxed);
  }

  // In a child of fork: joins as itself. Cheap everywhere else.
  void ensure_own() {
    if (epoch_.load(std::memory_order_acquire) != fork_epoch()) enter_after_fork();  // (2)
  }

  [[nodiscard]] std::uint32_t attachment() const noexcept {
    return attachment_.load(std::memory_order_relaxed);
  }

  // Whether the process behind an attachment may still run. Stopped ones do.
  [[nodiscard]] bool is_alive(std::uint32_t attachment) const noexcept {
    if (attachment >= kAttachments) return false;
    if (!has_locks_) return true;
    const bool is_own = epoch_.load(std::memory_order_acquire) == fork_epoch() &&  // (2)
                        attachment == this->attachment();
    return is_own || is_byte_locked(file_->fd(), byte_of(attachment));
  }

  [[nodiscard]] JournalPool& pool() noexcept { return pool_; }

  // Alone, after a stop that was not clean: nobody else joins until `recovered`.
  [[nodiscard]] bool must_recover() const noexcept {
    return must_recover_.load(std::memory_order_relaxed);
  }
  void recovered() {
    const std::lock_guard guard(file_->mutex());
    if (!must_recover()) return;
    start_anew();
    must_recover_.store(false, std::memory_order_relaxed);
    unlock_byte(file_->fd(), kAttachByte);
  }

  // Closes the file, too.
  void leave() noexcept {
    const std::lock_guard guard(file_->mutex());
    if (has_left_) return;
    has_left_ = true;
    if (epoch_.load(std::memory_order_acquire) == fork_epoch()) {  // (2)
      sign_off();
      // The mapping keeps the file open, and its locks, beyond the descriptor's end.
      unlock_byte(file_->fd(), byte_of(attachment()));
      unlock_byte(file_->fd(), kAttachByte);
    }
    file_->close();
  }

 private:
  static constexpr unsigned kNever = ~0u;

  void enter(bool is_alone) {
    const auto is_reusable = [&](std::uint32_t id) {
      return is_alone || pool_.clear_dead(id, [] { return true; });
    };
    preamble_->state.joined.fetch_add(1, std::memory_order_relaxed);
    const std::uint32_t id =
        take_attachment(file_->fd(), preamble_->attachments, has_locks_, path_, is_reusable);
    attachment_.store(id, std::memory_order_relaxed);
    pool_.bind(id);
    epoch_.store(fork_epoch(), std::memory_order_release);  // (2)
  }

  void enter_after_fork() {
    const std::lock_guard guard(file_->mutex());
    if (epoch_.load(std::memory_order_relaxed) == fork_epoch()) return;
    if (has_left_ || file_->fd() < 0) {
      throw StoreError("store '" + path_ +
                       "': it was closed, or could not be opened again after a fork (is /proc "
                       "mounted, are there file descriptors left?): attach to it anew");
    }
    AttachLock lock(file_->fd(), timeout_ms_, path_);
    const bool is_alone = has_locks_ && !has_others(file_->fd());
    enter(false);
    preamble_->state.is_clean.store(0, std::memory_order_relaxed);
    if (!must_recover()) return;
    if (is_alone) {
      lock.keep();  // the parent died before it was done
    } else {
      must_recover_.store(false, std::memory_order_relaxed);
    }
  }

  [[nodiscard]] bool stopped_clean() const {
    const SharedState& state = preamble_->state;
    const BootId now = boot_id();
    return state.is_clean.load(std::memory_order_acquire) == 1 &&  // (1)
           now != BootId{} && state.boot_id == now && !pool_.has_claims();
  }

  // Alone: what is noted of others and of claims is of the past.
  void start_anew() noexcept {
    preamble_->state.joined.store(1, std::memory_order_relaxed);
    pool_.reset();
    for (std::uint32_t id = 0; id < kAttachments; ++id) {
      if (id != attachment()) preamble_->attachments[id].used.store(0, std::memory_order_relaxed);
    }
  }

  void sign_off() noexcept {
    pool_.give_back();
    preamble_->attachments[attachment()].used.store(0, std::memory_order_relaxed);
    if (must_recover() || !has_locks_) return;
    // Whoever dies is never subtracted: perhaps a change of its is not counted, so the last one to
    // leave does not call the stop clean, and the next to come counts anew.
    const std::uint32_t before = preamble_->state.joined.fetch_sub(1, std::memory_order_relaxed);
    try {
      const AttachLock lock(file_->fd(), timeout_ms_, path_);
      if (before != 1 || has_others(file_->fd()) || pool_.has_claims()) return;
      preamble_->state.boot_id = boot_id();
      preamble_->state.is_clean.store(1, std::memory_order_release);  // (1)
    } catch (const std::exception&) {
      return;  // somebody is attaching, for ever so long: the next to come alone will check
    }
  }

  OwnFile* file_;
  Preamble* preamble_;
  std::string path_;
  bool is_anonymous_;
  std::int64_t timeout_ms_;
  JournalPool pool_;
  std::atomic<std::uint32_t> attachment_{0};
  std::atomic<unsigned> epoch_{kNever};  // of the fork in which this attachment was taken
  std::atomic<bool> must_recover_{false};
  bool has_locks_ = true;
  bool has_left_ = false;
};

}  // namespace predawn
