// The memory of a table: one anonymous mapping, taken once and given back with the table.
//
// What: `Arena`: zeroed bytes, aligned to a page.
// When not: anything that grows; there is no allocation after creation.
// Functions: constructor (std::bad_alloc when the mapping is refused), `at`.
// Design: pages are taken from the system at their first touch, so what is never used costs nothing
//   but address space. Small pages on purpose: keys spread at random, so with huge pages the first
//   thousand writes would take, and zero, the whole table at once (250 MB: 0.4 s in which the
//   caller stands still); huge pages gain 10 to 15 % of a lookup and want to be filled at creation.
// Memory: `bytes`, rounded up to pages. Cost: system calls at creation only.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>

namespace predawn {

class Arena {
 public:
  explicit Arena(std::size_t bytes)
      : bytes_(bytes),
        start_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    if (start_ == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_NOHUGEPAGE)
    ::madvise(start_, bytes_, MADV_NOHUGEPAGE);  // an advice: a kernel without them says no
#endif
  }
  ~Arena() { ::munmap(start_, bytes_); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::byte* at(std::size_t offset) const noexcept {
    return static_cast<std::byte*>(start_) + offset;
  }

 private:
  std::size_t bytes_;
  void* start_;
};

}  // namespace predawn
