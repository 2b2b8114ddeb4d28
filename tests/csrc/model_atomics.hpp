// An atomics policy for exploring schedules: the protocol headers run unchanged over it.
//
// What: `ModelAtomics`, a policy as in atomics.hpp; `Listener`, who is told of every access.
// When not: weak memory. Every access takes effect at once and in program order: sequentially
//   consistent by design. What orders accesses on hardware are the fences that atomics.hpp states;
//   the TSan builds and the comments next to them speak for those.
// Functions: as std::atomic; `peek` looks without telling anybody.
// Design: `before` is called ahead of every access, also of every 8-byte word of a row: there the
//   explorer may run somebody else. memory_order arguments are taken and ignored.
// Memory: that of the words. Cost: a virtual call or two per access.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace predawn {

class Listener {
 public:
  virtual ~Listener() = default;
  virtual void before(const void* at, bool writes) noexcept = 0;
  virtual void has_read(std::uint64_t value) noexcept = 0;
  virtual void has_written(const void* at, std::uint64_t old, std::uint64_t now) noexcept = 0;
};

struct ModelAtomics {
  static inline Listener* listener = nullptr;
  static constexpr bool kVectorScan = false;

  template <class T>
  class Word {
   public:
    T load(std::memory_order = std::memory_order_seq_cst) const noexcept {
      listener->before(this, false);
      listener->has_read(static_cast<std::uint64_t>(value_));
      return value_;
    }
    void store(T value, std::memory_order = std::memory_order_seq_cst) noexcept {
      listener->before(this, true);
      write(value);
    }
    T exchange(T value, std::memory_order = std::memory_order_seq_cst) noexcept {
      return update([value](T) { return value; });
    }
    T fetch_add(T value, std::memory_order = std::memory_order_seq_cst) noexcept {
      return update([value](T old) { return static_cast<T>(old + value); });
    }
    bool compare_exchange_strong(T& expected, T desired,
                                 std::memory_order = std::memory_order_seq_cst) noexcept {
      listener->before(this, true);
      listener->has_read(static_cast<std::uint64_t>(value_));
      if (value_ != expected) {
        expected = value_;
        return false;
      }
      write(desired);
      return true;
    }
    [[nodiscard]] T peek() const noexcept { return value_; }

   private:
    template <class Change>
    T update(Change change) noexcept {
      listener->before(this, true);
      listener->has_read(static_cast<std::uint64_t>(value_));
      const T old = value_;
      write(change(old));
      return old;
    }
    void write(T value) noexcept {
      const T old = value_;
      value_ = value;
      listener->has_written(this, static_cast<std::uint64_t>(old),
                            static_cast<std::uint64_t>(value));
    }

    T value_;
  };

  template <class T>
  static T reread(const Word<T>& word) noexcept {
    return word.load();
  }
  static void open_write(Word<std::uint64_t>& word, std::uint64_t odd) noexcept { word.store(odd); }

  static void load_words(const std::byte* shared, std::byte* own, std::size_t bytes) noexcept {
    for (std::size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
      const std::uint64_t value = reinterpret_cast<const Word<std::uint64_t>*>(shared + at)->load();
      std::memcpy(own + at, &value, sizeof value);
    }
  }
  static void store_words(std::byte* shared, const std::byte* own, std::size_t bytes) noexcept {
    for (std::size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
      std::uint64_t value = 0;
      std::memcpy(&value, own + at, sizeof value);
      reinterpret_cast<Word<std::uint64_t>*>(shared + at)->store(value);
    }
  }
};

}  // namespace predawn
