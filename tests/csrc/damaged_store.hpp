// A store file with damage described by bytes, and all that a user may do to it: no crash, a clear
// error or a usable store. For the fuzzer (fuzz_attach.cpp) and the test without one.
//
// An input is a byte of flags and edits of 5 bytes and more: region, offset (2), length, content.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "cache.hpp"

namespace predawn::testing {

using Bytes = std::vector<std::uint8_t>;

// What `DamagedStore::try_out` came to.
enum class Outcome : std::uint8_t { kRefused, kTrusted, kRecovered };

class DamagedStore {
 public:
  static constexpr std::uint8_t kRaw = 1;         // the rest is the file
  static constexpr std::uint8_t kClean = 2;       // closed by its last user, else killed
  static constexpr std::uint8_t kSealed = 4;      // with a checksum that fits the damaged header
  static constexpr std::uint8_t kBelievable = 8;  // and sizes that follow from its shape
  static constexpr std::uint8_t kTruncated = 16;  // or too long: two bytes say how long
  static constexpr std::size_t kLengthMost = 1 << 20;

  DamagedStore() : path_("/dev/shm/predawn-damaged-" + std::to_string(::getpid())) {
    ::unlink(path_.c_str());
    std::iota(ids_.begin(), ids_.end(), 1);
    make_templates();
  }
  ~DamagedStore() { ::unlink(path_.c_str()); }
  DamagedStore(const DamagedStore&) = delete;
  DamagedStore& operator=(const DamagedStore&) = delete;

  // Ends the process when something is wrong.
  Outcome try_out(std::span<const std::uint8_t> input) {
    write(damaged(input));
    return use();
  }

 private:
  static constexpr std::size_t kKeys = 40;
  static constexpr TableShape kShape{.capacity = 28, .dim = 6, .parts = 2};
  static constexpr CacheOptions kOptions{
      .huge_pages = false, .threads = 1, .attach_timeout_ms = 50};

  [[noreturn]] static void fail(const char* what, const std::string& more = {}) {
    std::fprintf(stderr, "damaged store: %s %s\n", what, more.c_str());
    std::abort();
  }

  [[nodiscard]] Key key(std::size_t i) const { return {ids_[i], 7}; }

  void put_all(Cache& cache, std::uint8_t origin) const {
    std::vector<Key> keys;
    for (std::size_t i = 0; i < kKeys; ++i) keys.push_back(key(i));
    const std::vector<float> rows(kKeys * cache.table().row().values(), 1.5f);
    if (cache.put_many(keys, rows.data(), {2'000, 3, origin}) > kKeys)
      fail("more written than put");
  }

  std::size_t get_all(Cache& cache) const {
    std::vector<Key> keys;
    for (std::size_t i = 0; i < kKeys; ++i) keys.push_back(key(i));
    const std::uint32_t parts = cache.table().row().parts();
    std::vector<float> rows(kKeys * cache.table().row().values());
    std::vector<std::int64_t> ages(kKeys);
    std::vector<std::uint32_t> snapshots(kKeys);
    std::vector<std::uint8_t> states(kKeys);
    return cache.get_many({.keys = keys,
                           .now_ms = 3'000,
                           .max_age_ms = 1'000'000,
                           .fresh_ms = 10,
                           .parts = parts,
                           .out = rows.data(),
                           .ages = ages.data(),
                           .snapshots = snapshots.data(),
                           .states = states.data()});
  }

  void make_templates() {
    auto cache = Cache::create(path_, kShape, Seed{5}, 1'000, kOptions);
    put_all(*cache, 0);
    put_all(*cache, 1);
    (void)get_all(*cache);
    killed_ = read();
    cache.reset();
    clean_ = read();
    if (use() != Outcome::kTrusted) fail("the undamaged store is not believed");
    write(killed_);
    if (use() != Outcome::kRecovered) fail("the killed store is believed");
  }

  [[nodiscard]] Bytes read() const {
    const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat about{};
    if (fd < 0 || ::fstat(fd, &about) != 0) fail("cannot read", path_);
    Bytes bytes(static_cast<std::size_t>(about.st_size));
    if (::pread(fd, bytes.data(), bytes.size(), 0) != about.st_size) fail("cannot read", path_);
    ::close(fd);
    return bytes;
  }

  void write(const Bytes& bytes) const {
    const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const auto size = static_cast<ssize_t>(bytes.size());
    if (fd < 0 || ::pwrite(fd, bytes.data(), bytes.size(), 0) != size) fail("cannot write", path_);
    ::close(fd);
  }

  [[nodiscard]] Bytes damaged(std::span<const std::uint8_t> input) const {
    const std::uint8_t flags = input.empty() ? std::uint8_t{0} : input[0];
    input = input.subspan(std::min<std::size_t>(1, input.size()));
    if ((flags & kRaw) != 0) return {input.begin(), input.end()};
    Bytes bytes = (flags & kClean) != 0 ? clean_ : killed_;
    std::size_t length = bytes.size();
    if ((flags & kTruncated) != 0 && input.size() >= 2) {
      length = std::size_t{input[0]} << 8 | input[1];
      input = input.subspan(2);
    }
    edit(bytes, input);
    if ((flags & kBelievable) != 0) make_believable(bytes);
    if ((flags & (kSealed | kBelievable)) != 0) seal(bytes);
    if ((flags & kTruncated) != 0) bytes.resize(length);
    return bytes;
  }

  static void edit(Bytes& bytes, std::span<const std::uint8_t> input) {
    while (input.size() >= 5) {
      const auto [begin, end] = region(input[0], bytes.size());
      const std::size_t offset = std::size_t{input[1]} << 8 | input[2];
      const std::size_t at = begin + offset % (end - begin);
      const std::size_t length =
          std::min({std::size_t{input[3]} % 9 + 1, input.size() - 4, bytes.size() - at});
      std::memcpy(bytes.data() + at, input.data() + 4, length);
      input = input.subspan(4 + length);
    }
  }

  [[nodiscard]] static std::pair<std::size_t, std::size_t> region(std::uint8_t number,
                                                                  std::size_t size) {
    switch (number % 8) {
      case 0:
        return {0, sizeof(TableHeader)};
      case 1:
        return {offsetof(Preamble, state), offsetof(Preamble, state) + sizeof(SharedState)};
      case 2:
        return {offsetof(Preamble, attachments), offsetof(Preamble, attachments) + 256};
      case 3:
        return {offsetof(Preamble, journal), offsetof(Preamble, journal) + 256};
      case 4:
        return {kPreambleBytes, kPreambleBytes + 128};
      case 5:
        return {kPreambleBytes, kPreambleBytes + 128};
      case 6:
        return {kPreambleBytes + kPageBytes, size};
      default:
        return {0, size};
    }
  }

  static void make_believable(Bytes& bytes) {
    TableHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    try {
      TableShape shape = shape_of(header);
      shape.capacity = std::min<std::uint64_t>(shape.capacity, 100);
      shape.id_kind = static_cast<IdKind>(static_cast<unsigned>(shape.id_kind) % 2);
      shape.placement = static_cast<Placement>(static_cast<unsigned>(shape.placement) % 2);
      const TableHeader made = make_header(shape, header.seed, header.created_ms);
      if (made.file_bytes > kLengthMost) return;
      std::memcpy(bytes.data(), &made, sizeof made);
      bytes.resize(made.file_bytes);
    } catch (const std::invalid_argument&) {
      return;  // no shape at all
    }
  }

  static void seal(Bytes& bytes) {
    TableHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    header.checksum = predawn::detail::header_checksum(header);
    std::memcpy(bytes.data(), &header, sizeof header);
  }

  Outcome use() const {
    try {
      const auto cache = Cache::attach(path_, kOptions);
      const bool is_recovered = was_recovered(*cache);
      work(*cache, is_recovered);
      cache->close();
      return is_recovered ? Outcome::kRecovered : Outcome::kTrusted;
    } catch (const StoreError& error) {
      if (std::strstr(error.what(), path_.c_str()) == nullptr) fail("an error without the path");
      return Outcome::kRefused;
    }
  }

  // Recovery has left no entry unlooked at.
  [[nodiscard]] static bool was_recovered(const Cache& cache) {
    const Recovered& found = cache.recovered();
    return found.kept + found.dropped() != 0;
  }

  void work(Cache& cache, bool is_recovered) const {
    if (is_recovered) expect_sound(cache, "after recovery");
    (void)get_all(cache);
    scan_all(cache);
    (void)cache.check();
    put_all(cache, 0);
    put_all(cache, 1);
    (void)get_all(cache);
    const std::array<Key, 2> some{key(0), key(1)};
    (void)cache.touch_many(some);
    (void)cache.invalidate_many(some);
    cache.invalidate_before(2);
    (void)cache.reap();
    if (is_recovered) expect_sound(cache, "after use");
  }

  static void expect_sound(Cache& cache, const char* when) {
    for (const std::string& sentence : cache.check()) fail(when, sentence);
  }

  static void scan_all(Cache& cache) {
    constexpr std::size_t kRoom = 16;
    std::array<Key, kRoom> keys;
    std::array<std::int64_t, kRoom> written;
    std::array<std::uint32_t, kRoom> snapshots;
    std::array<std::uint8_t, kRoom> origins;
    std::vector<float> rows(kRoom * cache.table().row().values());
    ScanStep step;
    do {
      step = cache.scan(step.next, {keys.data(), written.data(), snapshots.data(), origins.data(),
                                    rows.data(), kRoom});
    } while (step.next != 0);
  }

  std::string path_;
  std::array<std::uint64_t, kKeys> ids_{};
  Bytes killed_;
  Bytes clean_;
};

}  // namespace predawn::testing
