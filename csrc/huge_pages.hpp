// Pages of 2 MiB for a store, where the kernel gives them.
//
// What: `advise_pages`, `take_huge_pages`, `huge_bytes`.
// When not: a mapping that is already filled: collapsing that copies it, 30 times slower.
// Functions: `take_huge_pages` leaves small pages wherever it is refused, and takes no space for
//   them; `huge_bytes` says what this process has mapped in huge pages so far (0: none, or
//   unknown).
// Design: per 2 MiB one small page is taken, which MADV_COLLAPSE (Linux 6.1) turns into a huge one;
//   it works where /sys/kernel/mm/transparent_hugepage/shmem_enabled says never. Other processes
//   get the same pages by mapping the file.
// Memory: 2 MiB a page. Cost: 0.1 s a GiB, in which the kernel clears it.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "file_space.hpp"
#include "mapping.hpp"

namespace predawn {

// Wishes only: a kernel that does not know them says no, and nothing is lost.
inline void advise_pages(const Mapping& mapping, bool is_huge) noexcept {
  ::madvise(mapping.start(), mapping.bytes(), is_huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

namespace detail {

inline constexpr int kCollapse = 25;  // MADV_COLLAPSE; older headers lack it
inline constexpr unsigned kRefusalsMost = 16;

}  // namespace detail

// For a file in memory, of zeros. FileError when there is no space for the small pages.
inline void take_huge_pages(int fd, const Mapping& mapping, const std::string& path) {
  unsigned refused = 0;
  for (std::size_t at = 0; at + kHugePageBytes <= mapping.bytes(); at += kHugePageBytes) {
    take_space(fd, at, 1, path);
    if (::madvise(mapping.start() + at, kHugePageBytes, detail::kCollapse) == 0) {
      refused = 0;
    } else if (errno == EINVAL || ++refused == detail::kRefusalsMost) {
      return;  // unknown or forbidden; or there are none left
    }
  }
}

// Pages that lie in memory already, huge or not, are mapped by one look at each 2 MiB.
inline void map_huge_pages(const Mapping& mapping) noexcept {
  for (std::size_t at = 0; at < mapping.bytes(); at += kHugePageBytes) {
    (void)*static_cast<const volatile std::byte*>(mapping.start() + at);
  }
}

[[nodiscard]] inline std::uint64_t huge_bytes(const Mapping& mapping) {
  const auto start = reinterpret_cast<std::uintptr_t>(mapping.start());
  std::ifstream file("/proc/self/smaps");
  std::uint64_t kib = 0;
  bool is_ours = false;
  for (std::string line; std::getline(file, line);) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    char name[32] = {};
    std::uint64_t number = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2) {
      is_ours = from >= start && to <= start + mapping.bytes();
    } else if (is_ours && std::sscanf(line.c_str(), "%31s %" SCNu64, name, &number) == 2) {
      const bool counts = std::strcmp(name, "AnonHugePages:") == 0 ||
                          std::strcmp(name, "ShmemPmdMapped:") == 0 ||
                          std::strcmp(name, "FilePmdMapped:") == 0;
      if (counts) kib += number;
    }
  }
  return kib * 1024;
}

}  // namespace predawn
