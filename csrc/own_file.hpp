// An open file that a child of fork does not share with its parent.
//
// What: `OwnFile`: a descriptor whose file locks are this process's own, and a mutex that a child
//   finds free.
// When not: files without locks. A child made by a raw clone system call is not noticed.
// Functions: `fd` is -1 once closed, or when a child could not open the file again.
// Design: file locks of an open file description (F_OFD_SETLK) are shared by all who inherited it:
//   as long as a child holds it, a dead parent looks alive. So right after fork the child opens
//   /proc/self/fd/N anew in its place, which works for unlinked and anonymous files, too. The list
//   of open files is locked across fork. exec closes them (O_CLOEXEC).
// Memory: one list node a file. Cost: one mutex to open, to close and to fork.
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <new>

#include "mapping.hpp"

namespace predawn {

class OwnFile {
 public:
  // `open() -> Descriptor`; no fork happens between its call and the file's being listed.
  template <class Open>
  explicit OwnFile(Open&& open) {
    List& list = open_files();
    const std::lock_guard guard(list.mutex);
    file_ = open();
    fd_.store(file_.get(), std::memory_order_relaxed);
    next_ = list.first;
    if (next_ != nullptr) next_->previous_ = this;
    list.first = this;
  }
  ~OwnFile() {
    List& list = open_files();
    const std::lock_guard guard(list.mutex);
    if (next_ != nullptr) next_->previous_ = previous_;
    (previous_ != nullptr ? previous_->next_ : list.first) = next_;
    file_.close();
  }
  OwnFile(const OwnFile&) = delete;
  OwnFile& operator=(const OwnFile&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }

  void close() noexcept {
    const std::lock_guard guard(open_files().mutex);
    close_now();
  }

 private:
  struct List {
    std::mutex mutex;
    OwnFile* first = nullptr;
  };

  static List& open_files() {
    static List* list = [] {  // never destroyed: forks may come after static destructors
      auto* made = new List();
      if (::pthread_atfork(&before_fork, &after_fork_in_parent, &after_fork_in_child) != 0) {
        throw std::bad_alloc();
      }
      return made;
    }();
    return *list;
  }

  static void before_fork() { open_files().mutex.lock(); }
  static void after_fork_in_parent() { open_files().mutex.unlock(); }
  static void after_fork_in_child() {
    for (OwnFile* file = open_files().first; file != nullptr; file = file->next_) file->renew();
    open_files().mutex.unlock();
  }

  // In a child, which has one thread: whoever held the mutex in the parent does not exist here.
  void renew() noexcept {
    new (&mutex_) std::mutex();
    if (!file_.is_open()) return;
    char name[32];
    std::snprintf(name, sizeof name, "/proc/self/fd/%d", file_.get());
    Descriptor own(::open(name, O_RDWR | O_CLOEXEC));
    const bool is_renewed = own.is_open() && ::dup3(own.get(), file_.get(), O_CLOEXEC) >= 0;
    if (!is_renewed) close_now();
  }

  void close_now() noexcept {
    fd_.store(-1, std::memory_order_relaxed);
    file_.close();
  }

  Descriptor file_;
  std::atomic<int> fd_{-1};  // file_'s, for whoever asks while another thread closes
  std::mutex mutex_;
  OwnFile* next_ = nullptr;
  OwnFile* previous_ = nullptr;
};

}  // namespace predawn
