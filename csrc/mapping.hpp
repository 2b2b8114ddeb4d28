// A file in this process's address space, on a 2 MiB boundary, so that huge pages fit.
//
// What: `Descriptor` (a file descriptor and its end), `Mapping` (shared memory of a file).
// When not: memory that nobody else maps and no file stands for.
// Functions: `Mapping` throws OutOfMemory when the system refuses the address space, FileError when
//   it refuses the file.
// Design: address space is reserved with a boundary to spare, the file mapped into it at the first
//   boundary. Pages must be there before they are touched (file_space.hpp): a full file system
//   would show as SIGBUS.
// Memory: 2 MiB of address space beside the file's size. Cost: system calls at creation only.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "store_error.hpp"

namespace predawn {

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
};

inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

class Mapping {
 public:
  Mapping(int fd, std::size_t bytes, const std::string& path)
      : bytes_(bytes), reserved_bytes_(bytes + kHugePageBytes) {
    if (bytes > PTRDIFF_MAX - kHugePageBytes) throw OutOfMemory(path, bytes, std::nullopt);
    reserved_ = ::mmap(nullptr, reserved_bytes_, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved_ == MAP_FAILED) throw OutOfMemory(path, bytes, std::nullopt);
    const auto at = reinterpret_cast<std::uintptr_t>(reserved_);
    start_ = static_cast<std::byte*>(reserved_) + (kHugePageBytes - at % kHugePageBytes);
    if (::mmap(start_, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
        MAP_FAILED) {
      const int error = errno;
      ::munmap(reserved_, reserved_bytes_);
      if (error == ENOMEM || error == EAGAIN) throw OutOfMemory(path, bytes, std::nullopt);
      refuse_file(error, path, "mapping");
    }
  }
  ~Mapping() { ::munmap(reserved_, reserved_bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::byte* start() const noexcept { return start_; }

 private:
  std::size_t bytes_;
  std::size_t reserved_bytes_;
  void* reserved_ = nullptr;
  std::byte* start_ = nullptr;
};

}  // namespace predawn
