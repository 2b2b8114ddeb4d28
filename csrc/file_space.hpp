// Space for a file, taken before anybody touches it: a page that is missing later is a SIGBUS.
//
// What: `is_memory_file`, `set_length`, `check_space`, `take_space` (new files), `fill_holes` (old
//   ones).
// When not: memory that nobody commits (an anonymous store that fills up as it is used).
// Functions: FileError with ENOSPC, EDQUOT or EFBIG when there is no room; nothing has been written
//   to mapped pages then. Both fill holes only and keep what is there.
// Design: RLIMIT_FSIZE is looked up first, because passing it kills a process that does not ignore
//   SIGXFSZ. fallocate goes in pieces, since a signal makes it give up and start again. File
//   systems without fallocate get zeros written.
// Memory: none, or 1 MiB of zeros. Cost: that of the file system.
#pragma once

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "store_error.hpp"

namespace predawn {

// Its pages are memory and nothing else: tmpfs, memfd.
[[nodiscard]] inline bool is_memory_file(int fd) noexcept {
  struct statfs about{};
  return ::fstatfs(fd, &about) == 0 && about.f_type == TMPFS_MAGIC;
}

namespace detail {

inline constexpr std::size_t kPieceBytes = std::size_t{64} << 20;

inline void check_file_limit(std::uint64_t bytes, const std::string& path) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      bytes > limit.rlim_cur) {
    refuse_file(EFBIG, path,
                "making room (the process may write files of " + std::to_string(limit.rlim_cur) +
                    " bytes) for " + std::to_string(bytes) + " bytes in");
  }
}

// Returns how far it came: not to the end where the file system has no fallocate.
inline std::size_t allocate(int fd, std::size_t from, std::size_t bytes, const std::string& path) {
  std::size_t done = 0;
  while (done < bytes) {
    const std::size_t piece = std::min(kPieceBytes, bytes - done);
    if (::fallocate(fd, 0, static_cast<off_t>(from + done), static_cast<off_t>(piece)) == 0) {
      done += piece;
    } else if (errno == EOPNOTSUPP || errno == ENOSYS) {
      break;
    } else if (errno != EINTR) {
      refuse_file(errno, path, "making room for " + std::to_string(bytes) + " bytes in");
    }
  }
  return done;
}

inline void write_zeros(int fd, std::size_t from, std::size_t bytes, const std::string& path) {
  const std::vector<char> zeros(std::min(bytes, std::size_t{1} << 20));
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t wanted = std::min(zeros.size(), bytes - done);
    const ssize_t written = ::pwrite(fd, zeros.data(), wanted, static_cast<off_t>(from + done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) refuse_file(written < 0 ? errno : ENOSPC, path, "making room in");
    done += static_cast<std::size_t>(written);
  }
}

}  // namespace detail

inline void set_length(int fd, std::size_t bytes, const std::string& path) {
  detail::check_file_limit(bytes, path);
  while (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) refuse_file(errno, path, "setting the length of");
  }
}

// Bytes from `from` on, within the file's length; of a file that holds zeros so far.
inline void take_space(int fd, std::size_t from, std::size_t bytes, const std::string& path) {
  const std::size_t done = detail::allocate(fd, from, bytes, path);
  if (done < bytes) detail::write_zeros(fd, from + done, bytes - done, path);
}

// For a file with content: a copy of it may have holes where there were zeros.
inline void fill_holes(int fd, std::size_t bytes, const std::string& path) {
  (void)detail::allocate(fd, 0, bytes, path);
}

// Says at once what take_space would find out late: that the file system is too full.
inline void check_space(int fd, std::size_t bytes, const std::string& path) {
  struct statfs about{};
  if (::fstatfs(fd, &about) != 0 || about.f_blocks == 0) return;  // 0: without limit
  const auto room =
      static_cast<std::uint64_t>(about.f_bfree) * static_cast<std::uint64_t>(about.f_bsize);
  if (room < bytes) {
    refuse_file(ENOSPC, path,
                "making room for " + std::to_string(bytes) + " bytes (" + std::to_string(room) +
                    " free) in");
  }
}

}  // namespace predawn
