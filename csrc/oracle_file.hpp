// The oracle's shared memory.
//
// What: `OracleFile`.
// When not: stores (segment.hpp); this file belongs to one run and nobody else's.
// Functions: `create` (the file must not exist yet), `open`; both throw std::system_error.
// Design: a sparse file, zeros, mapped as it is.
// Memory: 3 MiB. Cost: a few page faults.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "oracle.hpp"

namespace predawn::torture {

class OracleFile {
 public:
  [[nodiscard]] static OracleFile create(const std::string& path, const Plan& plan) {
    OracleFile file(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC);
    file.oracle().plan = plan;
    return file;
  }
  [[nodiscard]] static OracleFile open(const std::string& path) {
    return OracleFile(path, O_RDWR | O_CLOEXEC);
  }

  ~OracleFile() {
    if (memory_ != nullptr) ::munmap(memory_, sizeof(Oracle));
  }
  OracleFile(OracleFile&& other) noexcept : memory_(std::exchange(other.memory_, nullptr)) {}
  OracleFile& operator=(OracleFile&&) = delete;

  [[nodiscard]] Oracle& oracle() const noexcept { return *static_cast<Oracle*>(memory_); }

 private:
  OracleFile(const std::string& path, int flags) {
    const int fd = ::open(path.c_str(), flags, 0600);
    if (fd < 0) fail("opening", path);
    const bool has_length = (flags & O_CREAT) == 0 || ::ftruncate(fd, sizeof(Oracle)) == 0;
    void* memory = has_length
                       ? ::mmap(nullptr, sizeof(Oracle), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                       : MAP_FAILED;
    const int error = errno;
    ::close(fd);
    errno = error;
    if (memory == MAP_FAILED) fail("mapping", path);
    memory_ = memory;
  }

  [[noreturn]] static void fail(const char* what, const std::string& path) {
    throw std::system_error(errno, std::generic_category(), std::string(what) + " " + path);
  }

  void* memory_ = nullptr;
};

}  // namespace predawn::torture
