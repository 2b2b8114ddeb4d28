// The memory of a table: one anonymous mapping, taken once and given back with the table.
//
// What: `Arena`: zeroed bytes, aligned to a huge page.
// When not: anything that grows; there is no allocation after creation.
// Functions: constructor (std::bad_alloc when the mapping is refused), `at`, `advise_huge`.
// Design: pages are taken from the system at their first touch, so what is never used costs nothing
//   but address space.
// Memory: `bytes`, rounded up to pages. Cost: system calls at creation only.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace predawn {

class Arena {
 public:
  static constexpr std::size_t kHugeBytes = std::size_t{2} << 20;

  explicit Arena(std::size_t bytes) : bytes_(bytes), mapped_(bytes + kHugeBytes) {
    void* start = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) throw std::bad_alloc();
    start_ = static_cast<std::byte*>(start);
    const std::size_t past = reinterpret_cast<std::uintptr_t>(start) % kHugeBytes;
    base_ = start_ + (past == 0 ? 0 : kHugeBytes - past);
  }
  ~Arena() { ::munmap(start_, mapped_); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::byte* at(std::size_t offset) const noexcept { return base_ + offset; }

  // Asks for huge pages in a range; a kernel that has none to give says no, and nothing is lost.
  void advise_huge(std::size_t offset, std::size_t bytes) const noexcept {
#if defined(MADV_HUGEPAGE)
    if (bytes >= kHugeBytes) ::madvise(at(offset), bytes, MADV_HUGEPAGE);
#else
    (void)offset, (void)bytes;
#endif
  }

 private:
  std::size_t bytes_;
  std::size_t mapped_;
  std::byte* start_ = nullptr;
  std::byte* base_ = nullptr;
};

}  // namespace predawn
