// Who is attached to a store, and who of them is alive.
//
// What: `try_lock_byte`, `unlock_byte`, `is_byte_locked` (locks of an open file description),
//   `AttachLock` (byte 0: attaching, recovering, leaving), `take_attachment` (an id below
//   kAttachments).
// When not: locking entries: nobody ever waits for anybody there.
// Functions: StoreError when byte 0 stays locked for too long, or all ids are taken.
// Design: attachment i holds a write lock on byte 1 + i of the file for as long as it lives; the
//   kernel drops it with the last descriptor, however the process ends. Asking for it says who is
//   alive, across pid namespaces. The descriptor must not be inherited (own_file.hpp). Where the
//   kernel has no such locks, an anonymous store works without: everybody counts as alive.
// Memory: AttachRecord in the store. Cost: a system call, 0.5 us.
#pragma once

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>

#include "header.hpp"
#include "store_error.hpp"

namespace predawn {

enum class LockEnd : std::uint8_t { kTaken, kHeld, kUnsupported };

inline constexpr off_t kAttachByte = 0;
[[nodiscard]] constexpr off_t byte_of(std::uint32_t attachment) noexcept {
  return off_t{1} + static_cast<off_t>(attachment);
}

namespace detail {

inline int lock_call(int fd, int command, short type, off_t first, off_t count,
                     struct flock* answer = nullptr) noexcept {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = first;
  lock.l_len = count;
  int done = 0;
  do {
    done = ::fcntl(fd, command, &lock);
  } while (done != 0 && errno == EINTR);
  if (answer != nullptr) *answer = lock;
  return done;
}

inline std::int64_t monotonic_ms() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

inline void pause_ms(std::int64_t ms) noexcept {
  const timespec pause{static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000 * 1'000'000)};
  ::nanosleep(&pause, nullptr);
}

}  // namespace detail

[[nodiscard]] inline LockEnd try_lock_byte(int fd, off_t byte) noexcept {
  if (detail::lock_call(fd, F_OFD_SETLK, F_WRLCK, byte, 1) == 0) return LockEnd::kTaken;
  return errno == EAGAIN || errno == EACCES ? LockEnd::kHeld : LockEnd::kUnsupported;
}

inline void unlock_byte(int fd, off_t byte) noexcept {
  (void)detail::lock_call(fd, F_OFD_SETLK, F_UNLCK, byte, 1);
}

// Whether any of these bytes is locked through another descriptor. In doubt: yes.
[[nodiscard]] inline bool is_byte_locked(int fd, off_t first, off_t count = 1) noexcept {
  struct flock answer{};
  const int done = detail::lock_call(fd, F_OFD_GETLK, F_WRLCK, first, count, &answer);
  return done != 0 || answer.l_type != F_UNLCK;
}

// Through the descriptor of an attachment: whether there is any other one.
[[nodiscard]] inline bool has_others(int fd) noexcept {
  return is_byte_locked(fd, byte_of(0), static_cast<off_t>(kAttachments));
}

// Held until the end of its life; `keep` leaves the byte locked until the file is closed.
class AttachLock {
 public:
  AttachLock(int fd, std::int64_t timeout_ms, const std::string& path) : fd_(fd) {
    const std::int64_t end_ms = detail::monotonic_ms() + std::max<std::int64_t>(timeout_ms, 0);
    for (std::int64_t pause_ms = 1;; pause_ms = std::min<std::int64_t>(pause_ms * 2, 16)) {
      const LockEnd end = try_lock_byte(fd, kAttachByte);
      is_supported_ = end != LockEnd::kUnsupported;
      if (end != LockEnd::kHeld) return;
      if (detail::monotonic_ms() >= end_ms) break;
      detail::pause_ms(pause_ms);
    }
    throw StoreError("store '" + path + "': another process has been attaching to it or checking " +
                     "it for " + std::to_string(timeout_ms) +
                     " ms: wait for it with a longer attach timeout, or end that process");
  }
  ~AttachLock() {
    if (fd_ >= 0) unlock_byte(fd_, kAttachByte);
  }
  AttachLock(const AttachLock&) = delete;
  AttachLock& operator=(const AttachLock&) = delete;

  void keep() noexcept { fd_ = -1; }
  // Whether there are such locks at all.
  [[nodiscard]] bool is_supported() const noexcept { return is_supported_; }

 private:
  int fd_;
  bool is_supported_ = false;
};

// Under the attach lock. `is_reusable(id)`: nothing of an earlier owner of the id is left; it is
// asked only when nobody can have the id. `has_locks`: as found when the store was opened.
template <class IsReusable>
std::uint32_t take_attachment(int fd, AttachRecord* records, bool has_locks,
                              const std::string& path, IsReusable&& is_reusable) {
  unsigned dead = 0;
  for (std::uint32_t id = 0; id < kAttachments; ++id) {
    std::uint32_t free = 0;
    if (has_locks) {
      if (try_lock_byte(fd, byte_of(id)) != LockEnd::kTaken) continue;
      if (!is_reusable(id)) {
        unlock_byte(fd, byte_of(id));
        ++dead;
        continue;
      }
      records[id].used.store(1, std::memory_order_relaxed);
    } else if (!records[id].used.compare_exchange_strong(free, 1, std::memory_order_relaxed)) {
      continue;
    }
    records[id].pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
    return id;
  }
  refuse(path, {"the number of attachments",
                std::to_string(kAttachments - dead) + " alive and " + std::to_string(dead) +
                    " dead, not cleared yet",
                "at most " + std::to_string(kAttachments),
                "close some, or let a living one write (that clears the dead)"});
}

}  // namespace predawn
