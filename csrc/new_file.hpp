// A file that appears under its name when it is finished, or not at all.
//
// What: `NewFile`.
// When not: replacing a file: whatever is there stays.
// Functions: `open` gives the descriptor to fill, `publish` gives the file its name: StoreError if
//   that is taken by then, FileError for all that the system refuses.
// Design: O_TMPFILE, a file without a name, which a killed process cannot leave behind; where the
//   file system has none, a name of its own (.NAME.PID.N.new) in the same folder, removed unless
//   published. Both ways of publishing fail when the name exists, so of two creators one wins.
// Memory: two strings. Cost: system calls.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>

#include "mapping.hpp"
#include "store_error.hpp"

namespace predawn {

class NewFile {
 public:
  explicit NewFile(std::string path) : path_(std::move(path)) {
    struct stat found{};
    if (::lstat(path_.c_str(), &found) != 0) return;
    if (S_ISDIR(found.st_mode)) refuse_file(EISDIR, path_, "creating");
    refuse_existing();
  }
  ~NewFile() {
    if (!name_.empty()) ::unlink(name_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  [[nodiscard]] Descriptor open(bool may_be_nameless = true) {
    if (may_be_nameless) {
      Descriptor file(::open(folder().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
      if (file.is_open()) return file;
    }
    static std::atomic<unsigned> count{0};
    const std::string name = folder() + "." + path_.substr(path_.rfind('/') + 1) + "." +
                             std::to_string(::getpid()) + "." + std::to_string(count++) + ".new";
    Descriptor file(::open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
    if (!file.is_open()) refuse_file(errno, path_, "creating");
    name_ = name;
    return file;
  }

  void publish(int fd) {
    const int error = name_.empty() ? link_nameless(fd) : rename_named();
    if (error == EEXIST) refuse_existing();
    if (error != 0) refuse_file(error, path_, "naming");
    name_.clear();
  }

 private:
  [[nodiscard]] std::string folder() const {
    const std::size_t cut = path_.rfind('/');
    return cut == std::string::npos ? "./" : path_.substr(0, cut + 1);
  }

  [[nodiscard]] int link_nameless(int fd) const noexcept {
    char source[32];
    std::snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    return ::linkat(AT_FDCWD, source, AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
  }

  [[nodiscard]] int rename_named() const noexcept {
    if (::renameat2(AT_FDCWD, name_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) == 0) {
      return 0;
    }
    if (errno != EINVAL && errno != ENOSYS) return errno;
    if (::link(name_.c_str(), path_.c_str()) != 0) return errno;
    ::unlink(name_.c_str());
    return 0;
  }

  [[noreturn]] void refuse_existing() const {
    refuse(path_, {"the path", "taken", "free", "attach to the store there, or remove the file"});
  }

  std::string path_;
  std::string name_;  // of the file until it is published; empty: it has none
};

}  // namespace predawn
