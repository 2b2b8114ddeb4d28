// Memory for benchmarks, on huge pages where they are asked for: what the store gets, peers get
// too.
//
// What: `Pages` (one mapping, touched), `HugeAllocator` (a standard allocator over huge pages).
// When not: outside benchmarks: memory of small objects comes back only with `release_all`.
// Functions: `Pages(bytes, huge)`; `chunks().release_all` once no container is left.
// Design: mappings are aligned to 2 MiB and advised before they are touched. Large requests get a
//   mapping each, so that a table that grows gives its old memory back; small ones (the nodes of
//   chained maps) are cut from chunks of 64 MiB and never reused. One thread at a time.
// Memory: rounded up to 2 MiB. Cost: a system call per mapping.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace predawn::bench {

inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

[[nodiscard]] constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) noexcept {
  return (bytes + unit - 1) / unit * unit;
}

class Pages {
 public:
  Pages(std::size_t bytes, bool huge) : bytes_(round_up(bytes, kHugePage)) {
    mapped_ = ::mmap(nullptr, bytes_ + kHugePage, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    const auto address = reinterpret_cast<std::uintptr_t>(mapped_);
    start_ = reinterpret_cast<std::byte*>(round_up(address, kHugePage));
    // A refusal leaves small pages, which is also what the store would get.
    (void)::madvise(start_, bytes_, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }
  Pages(Pages&& other) noexcept
      : mapped_(std::exchange(other.mapped_, nullptr)),
        start_(other.start_),
        bytes_(other.bytes_) {}
  Pages& operator=(Pages&&) = delete;
  ~Pages() {
    if (mapped_ != nullptr) ::munmap(mapped_, bytes_ + kHugePage);
  }

  [[nodiscard]] std::byte* start() const noexcept { return start_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  void* mapped_ = nullptr;
  std::byte* start_ = nullptr;
  std::size_t bytes_ = 0;
};

class HugeChunks {
 public:
  [[nodiscard]] void* take(std::size_t bytes) {
    if (bytes >= kLarge) {
      large_.emplace_back(bytes, true);
      return large_.back().start();
    }
    const std::size_t room = round_up(bytes, kAlignment);
    if (small_.empty() || used_ + room > kChunk) {
      small_.emplace_back(kChunk, true);
      used_ = 0;
    }
    void* found = small_.back().start() + used_;
    used_ += room;
    return found;
  }

  void give_back(void* memory) noexcept {
    for (Pages& pages : large_) {
      if (pages.start() != memory) continue;
      const Pages freed(std::move(pages));
      new (&pages) Pages(std::move(large_.back()));
      large_.pop_back();
      return;
    }
  }

  void release_all() noexcept {
    large_.clear();
    small_.clear();
  }

 private:
  static constexpr std::size_t kLarge = std::size_t{1} << 20;
  static constexpr std::size_t kChunk = std::size_t{64} << 20;
  static constexpr std::size_t kAlignment = 64;

  std::vector<Pages> large_;
  std::vector<Pages> small_;
  std::size_t used_ = 0;
};

// Of one library: with external linkage all libraries in a process would share it.
[[nodiscard]] static HugeChunks& chunks() {
  static HugeChunks own;
  return own;
}

template <class T>
struct HugeAllocator {
  using value_type = T;

  HugeAllocator() noexcept = default;
  template <class U>
  HugeAllocator(const HugeAllocator<U>&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t n) { return static_cast<T*>(chunks().take(n * sizeof(T))); }
  void deallocate(T* memory, std::size_t) noexcept { chunks().give_back(memory); }

  template <class U>
  [[nodiscard]] bool operator==(const HugeAllocator<U>&) const noexcept {
    return true;
  }
};

}  // namespace predawn::bench
