// What can go wrong with a store as a whole, as three kinds of exceptions.
//
// What: `StoreError`: the file is not what it should be, or others keep it busy. `FileError`: the
//   system refused something, with its errno and the path. `OutOfMemory`: with the bytes that were
//   needed and, where known, those that there were.
// When not: wrong arguments (std::invalid_argument), or single entries (they are absent, no error).
// Functions: `refuse` throws a StoreError whose sentence names path, field, found, expected and
// what
//   to do; `refuse_file` a FileError.
// Memory: their messages. Cost: that of an exception.
#pragma once

#include <cstdint>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace predawn {

class StoreError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class FileError : public std::system_error {
 public:
  FileError(int error, std::string path, const std::string& doing)
      : std::system_error(error, std::generic_category(), doing + " '" + path + "'"),
        path_(std::move(path)) {}

  [[nodiscard]] int error() const noexcept { return code().value(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

class OutOfMemory : public std::bad_alloc {
 public:
  OutOfMemory(const std::string& path, std::uint64_t needed, std::optional<std::uint64_t> available)
      : needed_(needed),
        available_(available),
        message_("store '" + path + "': " + std::to_string(needed) + " bytes of memory needed, " +
                 (available ? std::to_string(*available) + " available"
                            : std::string("which the system refuses to map")) +
                 ": ask for a smaller capacity or give the process more memory") {}

  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }
  [[nodiscard]] std::uint64_t needed() const noexcept { return needed_; }
  [[nodiscard]] std::optional<std::uint64_t> available() const noexcept { return available_; }

 private:
  std::uint64_t needed_;
  std::optional<std::uint64_t> available_;
  std::string message_;
};

struct Refusal {
  std::string field;
  std::string found;
  std::string expected;
  std::string remedy;
};

[[noreturn]] inline void refuse(const std::string& path, const Refusal& why) {
  throw StoreError("store '" + path + "': " + why.field + " is " + why.found + ", expected " +
                   why.expected + ": " + why.remedy);
}

[[noreturn]] inline void refuse_file(int error, const std::string& path, const std::string& doing) {
  throw FileError(error, path, doing);
}

}  // namespace predawn
